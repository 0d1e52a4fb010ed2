//! Calls to a dependency: bounded retries, with the dependency's circuit breaker before every attempt.
//!
//! A guard is what an instance of a function knows of the health of one dependency, so there is one for each, shared by
//! every port that speaks to it. Losing it with the instance is harmless.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Admission, Breaker, BreakerState, Probe};
use crate::ports::{NewRecord, RecordPublisher};
use crate::retry::{RetryPolicy, retry};
use crate::{Dependency, DependencyError, ErrorClass, Position};

/// The breaker is open: the call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("calls are refused for {} ms more", .probe_in.as_millis())]
pub struct BreakerOpen {
    /// Time until a call may be let through; zero while a probe is under way.
    pub probe_in: Duration,
}

/// There was no time left to make the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct OutOfTime;

/// Told of every change of a breaker's state.
pub type OnChange = Arc<dyn Fn(Dependency, BreakerState) + Send + Sync>;

/// A dependency as one instance of a function sees it.
pub struct Guard {
    dependency: Dependency,
    breaker: Breaker,
    /// The state that `on_change` was told last.
    told: Mutex<BreakerState>,
    on_change: OnChange,
}

impl Guard {
    /// A guard whose breaker stays open for `open_for` before it probes.
    pub fn new(dependency: Dependency, open_for: Duration, on_change: OnChange) -> Self {
        Guard { dependency, breaker: Breaker::new(open_for), told: Mutex::new(BreakerState::Closed), on_change }
    }

    pub fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Whether a call made now would be let through: for work that is in vain without this dependency, and should not
    /// begin. Takes no probe.
    ///
    /// # Errors
    /// What the call would fail with: a transient error with the tag `breaker-open`.
    pub fn ready(&self) -> Result<(), DependencyError> {
        match self.breaker.refuses(now()) {
            None => Ok(()),
            Some(probe_in) => Err(self.not_called("breaker-open", BreakerOpen { probe_in })),
        }
    }

    /// Calls as [`retry`] does. A call refused by the breaker is not repeated, and neither is one begun after
    /// `deadline`.
    ///
    /// # Errors
    /// The last call's error; or, if the call was not made, one that is transient, because a dependency that is down
    /// is no record's fault: tag `breaker-open` (see [`DependencyError::open_breaker`]) or `out-of-time`.
    pub async fn call<T, F>(
        &self,
        policy: RetryPolicy,
        deadline: Instant,
        mut call: impl FnMut() -> F,
    ) -> Result<T, DependencyError>
    where
        F: Future<Output = Result<T, DependencyError>>,
    {
        if Instant::now() >= deadline {
            return Err(self.not_called("out-of-time", OutOfTime));
        }
        retry(policy, deadline, || self.attempt(call())).await
    }

    /// Calls once, unless the breaker is open. `call` is not polled then.
    ///
    /// What counts as a failure is an error that speaks of the dependency; one that refuses a record for good comes from
    /// a dependency that is well. A call that its caller gives up counts as nothing, so a time-out that is to count
    /// belongs inside of it.
    ///
    /// # Errors
    /// The call's error, or a transient one with the tag `breaker-open`.
    pub async fn attempt<T>(
        &self,
        call: impl Future<Output = Result<T, DependencyError>>,
    ) -> Result<T, DependencyError> {
        let pass = self.admit().map_err(|open| self.not_called("breaker-open", open))?;
        let result = call.await;
        match &result {
            Err(error) if error.class != ErrorClass::Permanent => pass.failed(),
            Ok(_) | Err(_) => pass.succeeded(),
        }
        result
    }

    /// Publishes once, unless the breaker is open or `timeout` is zero; then every record's answer says so. As long as Kafka takes or
    /// refuses one of the records it is well: a partition without a leader must not cut off the others.
    pub async fn publish(
        &self,
        publisher: &dyn RecordPublisher,
        records: Vec<NewRecord>,
        timeout: Duration,
    ) -> Vec<Result<Position, DependencyError>> {
        if records.is_empty() {
            return Vec::new();
        }
        if timeout.is_zero() {
            return records.iter().map(|_| Err(self.not_called("out-of-time", OutOfTime))).collect();
        }
        let pass = match self.admit() {
            Ok(pass) => pass,
            Err(open) => return records.iter().map(|_| Err(self.not_called("breaker-open", open))).collect(),
        };
        let answers = publisher.publish(records, timeout).await;
        let is_answered = |answer: &Result<Position, DependencyError>| match answer {
            Ok(_) => true,
            Err(error) => error.class == ErrorClass::Permanent,
        };
        if answers.iter().any(is_answered) {
            pass.succeeded()
        } else {
            pass.failed()
        }
        answers
    }

    fn admit(&self) -> Result<Pass<'_>, BreakerOpen> {
        let admission = self.watched(|breaker| breaker.admit(now()));
        match admission {
            Admission::Call => Ok(Pass { guard: self, probe: None }),
            Admission::Probe(probe) => Ok(Pass { guard: self, probe: Some(probe) }),
            Admission::Refused { probe_in } => Err(BreakerOpen { probe_in }),
        }
    }

    fn not_called(&self, tag: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> DependencyError {
        DependencyError {
            dependency: self.dependency,
            class: ErrorClass::Transient,
            tag,
            doing: "making a call",
            source: Box::new(source),
        }
    }

    /// Acts on the breaker, and tells of the change if that made one. Concurrent changes are told one after another, so
    /// that what is told last is how it is.
    fn watched<T>(&self, act: impl FnOnce(&Breaker) -> T) -> T {
        let value = act(&self.breaker);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.breaker.state();
        if *told != state {
            *told = state;
            (self.on_change)(self.dependency, state);
        }
        value
    }
}

/// Of tokio's clock, so that tests can turn it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Leave to make one call. Dropped without a verdict, it gives a probe back.
struct Pass<'a> {
    guard: &'a Guard,
    probe: Option<Probe>,
}

impl Pass<'_> {
    fn succeeded(mut self) {
        self.probe = None;
        self.guard.watched(Breaker::succeeded);
    }

    fn failed(mut self) {
        self.probe = None;
        self.guard.watched(|breaker| breaker.failed(now()));
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(probe) = self.probe {
            self.guard.watched(|breaker| breaker.gave_up(probe, now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::breaker::{FAILURES_TO_OPEN, OPEN_FOR};

    /// A guard, and the changes it has told of.
    fn guard() -> (Guard, Arc<Mutex<Vec<BreakerState>>>) {
        let told: Arc<Mutex<Vec<BreakerState>>> = Arc::default();
        let log = Arc::clone(&told);
        let on_change = move |dependency, state| {
            assert_eq!(dependency, Dependency::S3);
            log.lock().unwrap().push(state);
        };
        (Guard::new(Dependency::S3, OPEN_FOR, Arc::new(on_change)), told)
    }

    fn failure(class: ErrorClass) -> DependencyError {
        DependencyError { dependency: Dependency::S3, class, tag: "test", doing: "testing", source: "boom".into() }
    }

    /// Calls with a minute left, and says how many attempts were made.
    async fn call(guard: &Guard, result: Result<(), ErrorClass>) -> (u32, Result<(), DependencyError>) {
        let attempts = AtomicU32::new(0);
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = guard
            .call(RetryPolicy::STANDARD, deadline, || async {
                attempts.fetch_add(1, Ordering::Relaxed);
                result.map_err(failure)
            })
            .await;
        (attempts.into_inner(), answer)
    }

    async fn opened() -> (Guard, Arc<Mutex<Vec<BreakerState>>>) {
        let (guard, told) = guard();
        while guard.state() != BreakerState::Open {
            call(&guard, Err(ErrorClass::Transient)).await.1.unwrap_err();
        }
        told.lock().unwrap().clear();
        (guard, told)
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_ends_a_call_between_two_attempts() {
        let (guard, told) = guard();
        assert_eq!(call(&guard, Err(ErrorClass::Transient)).await.0, 3);
        let (attempts, answer) = call(&guard, Err(ErrorClass::Overload)).await;
        assert_eq!(3 + attempts, FAILURES_TO_OPEN);
        let error = answer.unwrap_err();
        assert_eq!((error.dependency, error.class, error.tag), (Dependency::S3, ErrorClass::Transient, "breaker-open"));
        assert!(!error.is_retryable());
        assert_eq!(*told.lock().unwrap(), [BreakerState::Open]);

        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(guard.ready().unwrap_err().open_breaker().is_some());
        let (attempts, answer) = call(&guard, Ok(())).await;
        assert_eq!(attempts, 0, "it is not asked while the breaker is open");
        let probe_in = answer.unwrap_err().open_breaker().unwrap().probe_in;
        // The second call was retried for some milliseconds after the breaker had opened.
        assert!(probe_in > OPEN_FOR - Duration::from_secs(11) && probe_in <= OPEN_FOR - Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_closes_it_or_opens_it_again() {
        let (guard, told) = opened().await;
        tokio::time::advance(OPEN_FOR).await;
        assert!(guard.ready().is_ok() && told.lock().unwrap().is_empty(), "looking takes no probe");
        assert_eq!(call(&guard, Err(ErrorClass::Transient)).await.0, 1, "one probe, no retry");
        assert_eq!(*told.lock().unwrap(), [BreakerState::HalfOpen, BreakerState::Open]);
        tokio::time::advance(OPEN_FOR).await;
        assert!(call(&guard, Ok(())).await.1.is_ok());
        assert_eq!(told.lock().unwrap()[2..], [BreakerState::HalfOpen, BreakerState::Closed]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_probe_is_under_way_others_are_refused_and_a_dropped_probe_is_no_verdict() {
        let (guard, told) = opened().await;
        tokio::time::advance(OPEN_FOR).await;
        {
            let mut probe = Box::pin(guard.attempt(std::future::pending::<Result<(), DependencyError>>()));
            assert!(is_pending(&mut probe).await, "the probe is under way");
            let refused = call(&guard, Ok(())).await.1.unwrap_err();
            assert_eq!(refused.open_breaker(), Some(&BreakerOpen { probe_in: Duration::ZERO }));
        }
        assert_eq!(guard.state(), BreakerState::Open);
        assert!(call(&guard, Ok(())).await.1.is_ok(), "the next call is the probe");
        let states = [BreakerState::HalfOpen, BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed];
        assert_eq!(*told.lock().unwrap(), states);
    }

    /// Polls once; whether it is still pending.
    async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_record_and_a_call_given_up_are_no_failures() {
        let (guard, told) = guard();
        for _ in 0..2 * FAILURES_TO_OPEN {
            call(&guard, Err(ErrorClass::Permanent)).await.1.unwrap_err();
            let hanging = guard.attempt(std::future::pending::<Result<(), DependencyError>>());
            tokio::time::timeout(Duration::from_secs(1), hanging).await.unwrap_err();
        }
        assert_eq!(guard.state(), BreakerState::Closed);
        call(&guard, Err(ErrorClass::Transient)).await.1.unwrap_err();
        call(&guard, Err(ErrorClass::Permanent)).await.1.unwrap_err();
        call(&guard, Err(ErrorClass::Transient)).await.1.unwrap_err();
        assert_eq!(guard.state(), BreakerState::Closed, "whoever refuses a record is well");
        assert!(told.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn without_time_no_call_is_begun() {
        let (guard, _) = guard();
        for past in [Duration::ZERO, Duration::from_secs(1)] {
            let deadline = Instant::now();
            tokio::time::advance(past).await;
            let call = || async { panic!("called") };
            let error = guard.call::<(), _>(RetryPolicy::STANDARD, deadline, call).await.unwrap_err();
            assert_eq!((error.class, error.tag), (ErrorClass::Transient, "out-of-time"));
        }
    }

    /// Answers each record by the class that its value names, or with a position.
    struct Partly(Vec<Option<ErrorClass>>);

    #[async_trait::async_trait]
    impl RecordPublisher for Partly {
        async fn publish(&self, records: Vec<NewRecord>, _: Duration) -> Vec<Result<Position, DependencyError>> {
            assert_eq!(records.len(), self.0.len());
            let answer = |class: &Option<ErrorClass>| class.map_or(Ok(Position::new("t", 0, 0)), |c| Err(failure(c)));
            self.0.iter().map(answer).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn publishing_fails_if_no_record_is_answered() {
        let (guard, _) = guard();
        let record = || NewRecord { topic: "t", key: None, value: None, headers: Vec::new() };
        let publish = async |answers: &[Option<ErrorClass>]| {
            let publisher = Partly(answers.to_vec());
            guard.publish(&publisher, vec![record(); answers.len()], Duration::from_secs(1)).await
        };
        let transient = Some(ErrorClass::Transient);
        for _ in 0..FAILURES_TO_OPEN {
            publish(&[transient, None]).await;
            publish(&[transient, Some(ErrorClass::Permanent)]).await;
        }
        assert_eq!(guard.state(), BreakerState::Closed);
        for _ in 0..FAILURES_TO_OPEN {
            publish(&[transient, transient]).await;
        }
        let late = guard.publish(&Partly(Vec::new()), vec![record()], Duration::ZERO).await;
        assert!(late.iter().all(|answer| answer.as_ref().is_err_and(|error| error.tag == "out-of-time")));
        let answers = publish(&[None, None]).await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.open_breaker().is_some())));
    }
}
