//! Calls to a dependency: bounded retries, with the dependency's circuit breaker before every attempt.
//!
//! A guard holds what one instance of a function knows about the health of one dependency. There is one guard per
//! dependency, shared by every port that uses it. Losing it with the instance is harmless.
//!
//! Calls are closures that return futures, not async closures: the compiler cannot yet prove that the future of an
//! async closure that borrows is `Send` (rust-lang/rust#110338), and every handler's future must be.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::breaker::{Admission, Breaker, BreakerState, Probe};
use crate::ports::{NewRecord, RecordPublisher};
use crate::{BreakerOpen, Dependency, DependencyError, ErrorClass, OutOfTime, Position, WrongNumberOfAnswers};

/// Three attempts, with waits of up to 100 and up to 200 ms between them (DESIGN section 6).
const RETRIES: Backoff = Backoff { attempts: 3, base: Duration::from_millis(100), cap: Duration::from_secs(2) };

/// Sees what a guard does, for metrics and logs.
pub trait Observer: Send + Sync {
    /// At every change of the breaker's state.
    fn breaker_changed(&self, dependency: Dependency, state: BreakerState);

    /// After an attempt. `failed`: by the dependency's fault; a permanent refusal of a record is not one.
    fn attempted(&self, dependency: Dependency, took: Duration, failed: bool);

    /// Before an attempt that repeats one that failed.
    fn repeats(&self, dependency: Dependency);
}

/// For tools and tests.
struct Nobody;

impl Observer for Nobody {
    fn breaker_changed(&self, _: Dependency, _: BreakerState) {}
    fn attempted(&self, _: Dependency, _: Duration, _: bool) {}
    fn repeats(&self, _: Dependency) {}
}

/// A dependency as one instance of a function sees it.
pub struct Guard {
    dependency: Dependency,
    breaker: Breaker,
    /// The state that the observer was last told.
    reported: Mutex<BreakerState>,
    observer: Arc<dyn Observer>,
}

/// One record's answer from [`Guard::publish`]: its position in Kafka, or why it has no known position.
pub type Published = Result<Position, DependencyError>;

impl Guard {
    /// A guard whose breaker stays open for `open_for` before it probes.
    pub fn new(dependency: Dependency, open_for: Duration, observer: Arc<dyn Observer>) -> Self {
        Guard { dependency, breaker: Breaker::new(open_for), reported: Mutex::new(BreakerState::Closed), observer }
    }

    /// A guard that nobody observes: for tools and tests.
    pub fn unobserved(dependency: Dependency, open_for: Duration) -> Self {
        Guard::new(dependency, open_for, Arc::new(Nobody))
    }

    pub fn dependency(&self) -> Dependency {
        self.dependency
    }

    pub fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Checks whether a call made now would be let through, before work that is useless without this dependency. Does
    /// not use up the probe.
    ///
    /// # Errors
    /// The error that the call would fail with: a transient one with the tag `breaker-open`.
    pub fn ready(&self, doing: &'static str) -> Result<(), DependencyError> {
        match self.breaker.refuses(now()) {
            None => Ok(()),
            Some(probe_in) => Err(self.failure("breaker-open", doing, BreakerOpen { probe_in })),
        }
    }

    /// Repeats the call until it succeeds, fails permanently, three attempts are used up, or the next wait would end
    /// after `deadline`. `doing` says what the call does, in words that can be followed by "failed". A call that the
    /// breaker refused is not repeated, and none is begun after `deadline`. A call in progress at the deadline is not
    /// cut off, because every adapter bounds its own calls.
    ///
    /// # Errors
    /// The last call's error. If no call was made, a transient error with the tag `breaker-open` (see
    /// [`DependencyError::open_breaker`]) or `out-of-time`: a dependency that is down is not a record's fault.
    pub async fn call<T, F>(
        &self,
        deadline: Instant,
        doing: &'static str,
        mut call: impl FnMut() -> F,
    ) -> Result<T, DependencyError>
    where
        F: Future<Output = Result<T, DependencyError>>,
    {
        if Instant::now() >= deadline {
            return Err(self.failure("out-of-time", doing, OutOfTime));
        }
        let mut attempt = 1;
        loop {
            let error = match self.call_once(doing, call()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !error.is_retryable() || !self.wait_after(attempt, deadline, &error).await {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Like [`Guard::call`], for a call that asks `asked` questions and must return an answer to each.
    ///
    /// # Errors
    /// As for [`Guard::call`]; or, after the retries, a transient error with the tag `wrong-number-of-answers`.
    pub async fn call_each<T, F>(
        &self,
        deadline: Instant,
        doing: &'static str,
        asked: usize,
        mut call: impl FnMut() -> F,
    ) -> Result<Vec<T>, DependencyError>
    where
        F: Future<Output = Result<Vec<T>, DependencyError>>,
    {
        self.call(deadline, doing, || {
            let answers = call();
            async move {
                let answers = answers.await?;
                let answered = answers.len();
                if answered == asked { Ok(answers) } else { Err(self.wrong_number(doing, asked, answered)) }
            }
        })
        .await
    }

    /// Calls once. If the breaker is open, `call` is not polled. For callers that must answer quickly and whose own
    /// caller tries again.
    ///
    /// An error of the dependency counts as a failure. A permanent refusal of a record does not, because the dependency
    /// works. A call that its caller drops counts as neither success nor failure, so a time-out that should count must
    /// be inside `call`.
    ///
    /// # Errors
    /// The call's error, or a transient one with the tag `breaker-open`.
    pub async fn call_once<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, DependencyError>>,
    ) -> Result<T, DependencyError> {
        let pass = self.admit().map_err(|open| self.failure("breaker-open", doing, open))?;
        let started = Instant::now();
        let result = call.await;
        pass.ended(started, result.as_ref().is_err_and(|error| error.class != ErrorClass::Permanent));
        result.map_err(|error| DependencyError { doing, ..error })
    }

    /// Publishes the records, and repeats only those that were not acknowledged and may succeed at the next attempt.
    /// Retries as [`Guard::call`] does; `timeout` bounds each attempt. Returns one answer per record, in order.
    pub async fn publish(
        &self,
        deadline: Instant,
        doing: &'static str,
        publisher: &dyn RecordPublisher,
        records: Vec<NewRecord>,
        timeout: Duration,
    ) -> Vec<Published> {
        let mut records: Vec<(NewRecord, Option<Published>)> =
            records.into_iter().map(|record| (record, None)).collect();
        let mut attempt = 1;
        loop {
            let wait = timeout.min(deadline.saturating_duration_since(Instant::now()));
            // The copies share the bytes of keys, values and header values.
            let again = records.iter().filter(|(_, answer)| is_open(answer.as_ref())).map(|(record, _)| record.clone());
            let answers = self.publish_once(doing, publisher, again.collect(), wait).await;
            let open = records.iter_mut().filter(|(_, answer)| is_open(answer.as_ref()));
            for ((_, last), answer) in open.zip(answers) {
                *last = Some(answer);
            }
            let failed = records.iter().find_map(|(_, answer)| match answer {
                Some(Err(error)) if error.is_retryable() => Some(error),
                _ => None,
            });
            match failed {
                Some(error) if self.wait_after(attempt, deadline, error).await => attempt += 1,
                Some(_) | None => return records.into_iter().filter_map(|(_, answer)| answer).collect(),
            }
        }
    }

    /// Publishes once. If the breaker is open or `timeout` is zero, it publishes nothing, and every record's answer is
    /// that error. Kafka counts as working if it accepts or permanently refuses at least one of the records: a
    /// partition without a leader must not block the others. For callers that must answer quickly and whose own caller
    /// tries again.
    pub async fn publish_once(
        &self,
        doing: &'static str,
        publisher: &dyn RecordPublisher,
        records: Vec<NewRecord>,
        timeout: Duration,
    ) -> Vec<Published> {
        let asked = records.len();
        let all_failed = |error: &dyn Fn() -> DependencyError| (0..asked).map(|_| Err(error())).collect();
        if records.is_empty() {
            return Vec::new();
        }
        if timeout.is_zero() {
            return all_failed(&|| self.failure("out-of-time", doing, OutOfTime));
        }
        let pass = match self.admit() {
            Ok(pass) => pass,
            Err(open) => return all_failed(&|| self.failure("breaker-open", doing, open)),
        };
        let started = Instant::now();
        let answers = publisher.publish(records, timeout).await;
        let is_answered = |answer: &Published| match answer {
            Ok(_) => true,
            Err(error) => error.class == ErrorClass::Permanent,
        };
        pass.ended(started, !answers.iter().any(is_answered));
        let answered = answers.len();
        if answered != asked {
            return all_failed(&|| self.wrong_number(doing, asked, answered));
        }
        answers.into_iter().map(|answer| answer.map_err(|error| DependencyError { doing, ..error })).collect()
    }

    /// Waits before the next attempt. Returns `false` at once if there must be no further attempt.
    async fn wait_after(&self, attempt: u32, deadline: Instant, error: &DependencyError) -> bool {
        let wait = RETRIES.wait(attempt);
        if attempt >= RETRIES.attempts || Instant::now() + wait >= deadline {
            return false;
        }
        tracing::warn!(
            dependency = error.dependency.as_str(),
            doing = error.doing,
            tag = error.tag,
            attempt,
            wait_ms = crate::millis(wait),
            "a call to a dependency failed and will be repeated"
        );
        tokio::time::sleep(wait).await;
        self.observer.repeats(self.dependency);
        true
    }

    /// The error for an adapter that returned a different number of answers than it was asked for.
    fn wrong_number(&self, doing: &'static str, asked: usize, answered: usize) -> DependencyError {
        self.failure("wrong-number-of-answers", doing, WrongNumberOfAnswers { asked, answered })
    }

    fn admit(&self) -> Result<Pass<'_>, BreakerOpen> {
        let admission = self.watched(|breaker| breaker.admit(now()));
        match admission {
            Admission::Call => Ok(Pass { guard: self, probe: None }),
            Admission::Probe(probe) => Ok(Pass { guard: self, probe: Some(probe) }),
            Admission::Refused { probe_in } => Err(BreakerOpen { probe_in }),
        }
    }

    /// A failure that is not caused by the records.
    fn failure(
        &self,
        tag: &'static str,
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> DependencyError {
        let class = ErrorClass::Transient;
        DependencyError { dependency: self.dependency, class, tag, doing, source: Box::new(source) }
    }

    /// Runs `act` on the breaker, and reports the state if it changed. Concurrent changes are reported one after
    /// another, so the last report is the current state.
    fn watched<T>(&self, act: impl FnOnce(&Breaker) -> T) -> T {
        let value = act(&self.breaker);
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.breaker.state();
        if *reported != state {
            *reported = state;
            self.observer.breaker_changed(self.dependency, state);
        }
        value
    }
}

/// Whether a record has to be published, or published again.
fn is_open(answer: Option<&Published>) -> bool {
    match answer {
        None => true,
        Some(Ok(_)) => false,
        Some(Err(error)) => error.is_retryable(),
    }
}

/// The positions of all records, or one error: a permanent one if there is one, because then a repetition cannot help.
///
/// # Errors
/// If a record was not acknowledged.
pub fn all_published(answers: Vec<Published>) -> Result<Vec<Position>, DependencyError> {
    let mut positions = Vec::with_capacity(answers.len());
    let mut worst: Option<DependencyError> = None;
    for answer in answers {
        match answer {
            Ok(position) => positions.push(position),
            Err(error) if worst.as_ref().is_none_or(DependencyError::is_retryable) => worst = Some(error),
            Err(_) => {}
        }
    }
    worst.map_or(Ok(positions), Err)
}

/// The time of tokio's clock, which tests can pause and advance.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Permission to make one call. If it is dropped before the call has ended and the call was a probe, the next call may
/// probe.
struct Pass<'a> {
    guard: &'a Guard,
    probe: Option<Probe>,
}

impl Pass<'_> {
    fn ended(mut self, started: Instant, failed: bool) {
        self.probe = None;
        self.guard.observer.attempted(self.guard.dependency, started.elapsed(), failed);
        self.guard.watched(|breaker| if failed { breaker.failed(now()) } else { breaker.succeeded() });
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

    /// Keeps what it is told.
    #[derive(Default)]
    struct Notes {
        states: Mutex<Vec<BreakerState>>,
        /// For each attempt, whether it failed.
        attempts: Mutex<Vec<bool>>,
        repetitions: AtomicU32,
    }

    impl Observer for Notes {
        fn breaker_changed(&self, dependency: Dependency, state: BreakerState) {
            assert_eq!(dependency, Dependency::S3);
            self.states.lock().unwrap().push(state);
        }

        fn attempted(&self, _: Dependency, _: Duration, failed: bool) {
            self.attempts.lock().unwrap().push(failed);
        }

        fn repeats(&self, _: Dependency) {
            self.repetitions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A guard, and what its observer was told.
    fn guard() -> (Guard, Arc<Notes>) {
        let notes = Arc::new(Notes::default());
        (Guard::new(Dependency::S3, OPEN_FOR, Arc::clone(&notes) as Arc<dyn Observer>), notes)
    }

    fn failure(class: ErrorClass) -> DependencyError {
        DependencyError { dependency: Dependency::S3, class, tag: "test", doing: "testing", source: "boom".into() }
    }

    /// Calls with a minute left, and returns how many attempts were made.
    async fn call(guard: &Guard, result: Result<(), ErrorClass>) -> (u32, Result<(), DependencyError>) {
        let attempts = AtomicU32::new(0);
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = guard
            .call(deadline, "testing", || async {
                attempts.fetch_add(1, Ordering::Relaxed);
                result.map_err(failure)
            })
            .await;
        (attempts.into_inner(), answer)
    }

    async fn opened() -> (Guard, Arc<Notes>) {
        let (guard, notes) = guard();
        while guard.state() != BreakerState::Open {
            call(&guard, Err(ErrorClass::Transient)).await.1.unwrap_err();
        }
        notes.states.lock().unwrap().clear();
        (guard, notes)
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_ends_a_call_between_two_attempts() {
        let (guard, notes) = guard();
        assert_eq!(call(&guard, Err(ErrorClass::Transient)).await.0, 3);
        let (attempts, answer) = call(&guard, Err(ErrorClass::Overload)).await;
        assert_eq!(3 + attempts, FAILURES_TO_OPEN);
        let error = answer.unwrap_err();
        assert_eq!((error.dependency, error.class, error.tag), (Dependency::S3, ErrorClass::Transient, "breaker-open"));
        assert!(!error.is_retryable());
        assert_eq!(*notes.states.lock().unwrap(), [BreakerState::Open]);

        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(guard.ready("testing").unwrap_err().open_breaker().is_some());
        let (attempts, answer) = call(&guard, Ok(())).await;
        assert_eq!(attempts, 0, "no call is made while the breaker is open");
        let probe_in = answer.unwrap_err().open_breaker().unwrap().probe_in;
        // The second call was retried for some milliseconds after the breaker had opened.
        assert!(probe_in > OPEN_FOR - Duration::from_secs(11) && probe_in <= OPEN_FOR - Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_closes_it_or_opens_it_again() {
        let (guard, notes) = opened().await;
        tokio::time::advance(OPEN_FOR).await;
        assert!(
            guard.ready("testing").is_ok() && notes.states.lock().unwrap().is_empty(),
            "`ready` does not use up the probe"
        );
        assert_eq!(call(&guard, Err(ErrorClass::Transient)).await.0, 1, "one probe, no retry");
        assert_eq!(*notes.states.lock().unwrap(), [BreakerState::HalfOpen, BreakerState::Open]);
        tokio::time::advance(OPEN_FOR).await;
        assert!(call(&guard, Ok(())).await.1.is_ok());
        assert_eq!(notes.states.lock().unwrap()[2..], [BreakerState::HalfOpen, BreakerState::Closed]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_probe_is_under_way_others_are_refused_and_a_dropped_probe_is_no_verdict() {
        let (guard, notes) = opened().await;
        tokio::time::advance(OPEN_FOR).await;
        {
            let mut probe = Box::pin(guard.call_once("testing", std::future::pending::<Result<(), DependencyError>>()));
            assert!(is_pending(&mut probe).await, "the probe is under way");
            let refused = call(&guard, Ok(())).await.1.unwrap_err();
            assert_eq!(refused.open_breaker(), Some(&BreakerOpen { probe_in: Duration::ZERO }));
        }
        assert_eq!(guard.state(), BreakerState::Open);
        assert!(call(&guard, Ok(())).await.1.is_ok(), "the next call is the probe");
        let states = [BreakerState::HalfOpen, BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed];
        assert_eq!(*notes.states.lock().unwrap(), states);
    }

    /// Polls once, and returns whether the future is still pending.
    async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_record_and_a_call_given_up_are_no_failures() {
        let (guard, notes) = guard();
        for _ in 0..2 * FAILURES_TO_OPEN {
            call(&guard, Err(ErrorClass::Permanent)).await.1.unwrap_err();
            let hanging = guard.call_once("testing", std::future::pending::<Result<(), DependencyError>>());
            tokio::time::timeout(Duration::from_secs(1), hanging).await.unwrap_err();
        }
        assert_eq!(guard.state(), BreakerState::Closed);
        call(&guard, Err(ErrorClass::Transient)).await.1.unwrap_err();
        call(&guard, Err(ErrorClass::Permanent)).await.1.unwrap_err();
        call(&guard, Err(ErrorClass::Transient)).await.1.unwrap_err();
        assert_eq!(guard.state(), BreakerState::Closed, "a dependency that refuses a record works");
        assert!(notes.states.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn stops_at_success_exhaustion_or_a_permanent_error() {
        let attempts = async |left: Duration, class: ErrorClass, failures: u32| {
            let (guard, _) = guard();
            let calls = AtomicU32::new(0);
            let call = || async {
                if calls.fetch_add(1, Ordering::Relaxed) < failures { Err(failure(class)) } else { Ok(()) }
            };
            let result = guard.call(Instant::now() + left, "testing", call).await;
            (calls.into_inner(), result.is_ok())
        };
        let minute = Duration::from_secs(60);
        assert_eq!(attempts(minute, ErrorClass::Transient, 2).await, (3, true));
        assert_eq!(attempts(minute, ErrorClass::Overload, 9).await, (3, false));
        assert_eq!(attempts(minute, ErrorClass::Permanent, 9).await, (1, false));
        assert_eq!(
            attempts(Duration::from_nanos(1), ErrorClass::Transient, 9).await,
            (1, false),
            "no time left to wait for a second attempt"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_observer_sees_every_attempt_and_every_repetition() {
        let (guard, notes) = guard();
        call(&guard, Err(ErrorClass::Transient)).await.1.unwrap_err();
        call(&guard, Err(ErrorClass::Permanent)).await.1.unwrap_err();
        call(&guard, Ok(())).await.1.unwrap();
        assert_eq!(*notes.attempts.lock().unwrap(), [true, true, true, false, false]);
        assert_eq!(notes.repetitions.load(Ordering::Relaxed), 2);
        let record = NewRecord { topic: "t", key: None, value: None, headers: Vec::new() };
        let deadline = Instant::now() + Duration::from_secs(60);
        let publisher = Partly(vec![Some(ErrorClass::Transient)]);
        guard.publish(deadline, "testing", &publisher, vec![record], Duration::from_secs(1)).await;
        assert_eq!(
            notes.attempts.lock().unwrap()[5..],
            [true, true, true],
            "one for each request, not for each record"
        );
        assert_eq!(notes.repetitions.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn without_time_no_call_is_begun() {
        let (guard, _) = guard();
        for past in [Duration::ZERO, Duration::from_secs(1)] {
            let deadline = Instant::now();
            tokio::time::advance(past).await;
            let call = || async { panic!("called") };
            let error = guard.call::<(), _>(deadline, "testing", call).await.unwrap_err();
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

        async fn close(&self, _: Duration) -> Result<(), DependencyError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn publishing_fails_if_no_record_is_answered() {
        let (guard, _) = guard();
        let record = || NewRecord { topic: "t", key: None, value: None, headers: Vec::new() };
        let publish = async |answers: &[Option<ErrorClass>]| {
            let publisher = Partly(answers.to_vec());
            guard.publish_once("testing", &publisher, vec![record(); answers.len()], Duration::from_secs(1)).await
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
        let late = guard.publish_once("testing", &Partly(Vec::new()), vec![record()], Duration::ZERO).await;
        assert!(late.iter().all(|answer| answer.as_ref().is_err_and(|error| error.tag == "out-of-time")));
        let answers = publish(&[None, None]).await;
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.open_breaker().is_some())));
    }

    /// Fails the records that its queue names, accepts all others, and keeps the values of each call.
    #[derive(Default)]
    struct Recorded {
        failures: Mutex<Vec<Vec<(&'static str, ErrorClass)>>>,
        calls: Mutex<Vec<Vec<String>>>,
        answers_too_many: bool,
    }

    #[async_trait::async_trait]
    impl RecordPublisher for Recorded {
        async fn publish(&self, records: Vec<NewRecord>, _: Duration) -> Vec<Published> {
            let text = |record: &NewRecord| String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
            let values: Vec<String> = records.iter().map(text).collect();
            let failures = self.failures.lock().unwrap().pop().unwrap_or_default();
            let answer = |value: &String| match failures.iter().find(|(failing, _)| failing == value) {
                Some((_, class)) => Err(failure(*class)),
                None => Ok(Position::new("t", 0, value.parse().unwrap())),
            };
            let mut answers: Vec<Published> = values.iter().map(answer).collect();
            if self.answers_too_many {
                answers.push(Ok(Position::new("t", 0, 0)));
            }
            self.calls.lock().unwrap().push(values);
            answers
        }

        async fn close(&self, _: Duration) -> Result<(), DependencyError> {
            Ok(())
        }
    }

    async fn publish(publisher: &Recorded) -> Vec<Published> {
        let record = |value: &'static str| NewRecord {
            topic: "t",
            key: None,
            value: Some(bytes::Bytes::from_static(value.as_bytes())),
            headers: Vec::new(),
        };
        let records = ["1", "2", "3"].map(record).into();
        let (guard, _) = guard();
        let deadline = Instant::now() + Duration::from_secs(60);
        guard.publish(deadline, "testing", publisher, records, Duration::from_secs(1)).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_failed_and_may_succeed_is_published_again() {
        let (transient, permanent) = (ErrorClass::Transient, ErrorClass::Permanent);
        let failures = vec![vec![("3", transient)], vec![("1", permanent), ("2", transient), ("3", transient)]];
        let publisher = Recorded { failures: Mutex::new(failures), ..Recorded::default() };
        let answers = publish(&publisher).await;
        assert_eq!(*publisher.calls.lock().unwrap(), [vec!["1", "2", "3"], vec!["2", "3"], vec!["3"]]);
        let offsets: Vec<Option<i64>> = answers.iter().map(|answer| answer.as_ref().ok().map(|at| at.offset)).collect();
        assert_eq!(offsets, [None, Some(2), Some(3)], "each record has its own answer");
        assert_eq!(all_published(answers).unwrap_err().class, permanent);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_number_of_answers_acknowledges_nothing() {
        let publisher = Recorded { answers_too_many: true, ..Recorded::default() };
        let answers = publish(&publisher).await;
        assert_eq!(publisher.calls.lock().unwrap().len(), 3);
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|e| e.tag == "wrong-number-of-answers")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_has_to_be_answered_item_by_item() {
        let (guard, _) = guard();
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = guard.call_each(deadline, "testing", 3, || async { Ok(vec![1, 2]) }).await.unwrap_err();
        assert_eq!((error.class, error.tag), (ErrorClass::Transient, "wrong-number-of-answers"));
        assert_eq!(guard.call_each(deadline, "testing", 2, || async { Ok(vec![1, 2]) }).await.unwrap(), [1, 2]);
    }
}
