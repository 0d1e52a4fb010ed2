//! The contract of every [`ClaimStore`].
#![expect(clippy::panic, clippy::expect_used, reason = "a contract suite fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event::{EventId, EventKey, Origin, PayloadHash, RecordDigest, TenantId, Timestamp};
use futures::future::join_all;
use pipeline::clock::{Clock, SystemClock};
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict, HeldClaims};

/// Runs the suite. `ttl` is the window with which the store was created, at least two seconds.
///
/// Time only passes through `now`, so the suite need not wait. Keys are new in every run, so the store need not be
/// empty and several runs may share it.
pub async fn claims_contract(store: &dyn ClaimStore, ttl: Duration) {
    assert!(ttl >= Duration::from_secs(2), "the suite needs a window of at least two seconds");
    let suite = Suite { store, ttl, start: SystemClock.now(), run: RunId::next() };
    suite.an_empty_call_is_answered().await;
    suite.the_first_claim_wins_and_its_redelivery_goes_on().await;
    suite.another_record_at_the_owners_position_is_a_copy().await;
    suite.a_copy_is_told_whether_its_payload_differs().await;
    suite.a_claim_holds_for_its_window_and_not_longer().await;
    suite.repeats_do_not_extend_the_window().await;
    suite.an_expired_claim_of_ones_own_is_new_again().await;
    suite.ids_are_scoped_by_tenant_and_compared_byte_by_byte().await;
    suite.a_large_call_is_answered_in_order().await;
    suite.one_of_many_concurrent_claimers_wins().await;
    suite.one_of_many_concurrent_claimers_takes_an_expired_claim_over().await;
    suite.concurrent_calls_may_overlap_in_any_order().await;
}

/// Runs the suite of those who look at claims, with a store whose window is `ttl`.
pub async fn held_claims_contract<S: ClaimStore + HeldClaims>(store: &S, ttl: Duration) {
    let suite = Suite { store, ttl, start: SystemClock.now(), run: RunId::next() };
    let (first, copy) = (suite.claim("held", 1, "a"), suite.claim("held", 2, "b"));
    let find = async |key: &EventKey| store.find(key).await.unwrap_or_else(|error| panic!("the store failed: {error}"));
    assert_eq!(find(&first.key).await, None);
    suite.ask_one(&first, suite.start).await;
    suite.ask_one(&copy, suite.start).await;
    let held = find(&first.key).await.expect("a claim");
    assert!(held.owner.is_same(&first.origin), "{held:?}");
    assert_eq!(held.payload_hash, first.payload_hash);
    let end = suite.start.plus(ttl);
    assert!(held.expires_at >= end && held.expires_at <= end.plus(Duration::from_secs(1)), "{held:?}");
    assert_eq!(find(&suite.key("other")).await, None);
}

/// Distinguishes runs that share a store, including runs of other processes.
struct RunId(String);

impl RunId {
    fn next() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        RunId(format!("{}-{}-{run}", SystemClock.now().as_millis(), std::process::id()))
    }
}

struct Suite<'a> {
    store: &'a dyn ClaimStore,
    ttl: Duration,
    start: Timestamp,
    run: RunId,
}

impl Suite<'_> {
    fn key(&self, id: &str) -> EventKey {
        EventKey {
            tenant: TenantId::new("contract").expect("a tenant"),
            id: EventId::new(&format!("{}/{id}", self.run.0)).expect("an id"),
        }
    }

    fn claim(&self, id: &str, offset: i64, payload: &str) -> Claim {
        Claim { key: self.key(id), origin: origin(offset), payload_hash: PayloadHash::of(payload.as_bytes()) }
    }

    async fn ask(&self, claims: &[Claim], now: Timestamp) -> Vec<ClaimVerdict> {
        match self.store.claim(claims, now).await {
            Ok(verdicts) => {
                assert_eq!(verdicts.len(), claims.len(), "one verdict for each claim");
                verdicts
            }
            Err(error) => panic!("the store failed: {error}: {}", error.source),
        }
    }

    async fn ask_one(&self, claim: &Claim, now: Timestamp) -> ClaimVerdict {
        self.ask(std::slice::from_ref(claim), now).await.remove(0)
    }

    /// One second past the end: a store may keep whole seconds and round the end up, but never down.
    fn past(&self, made_at: Timestamp) -> Timestamp {
        made_at.plus(self.ttl).plus(Duration::from_secs(1))
    }

    fn within(&self, made_at: Timestamp) -> Timestamp {
        made_at.plus(self.ttl - Duration::from_millis(1))
    }

    async fn an_empty_call_is_answered(&self) {
        assert_eq!(self.ask(&[], self.start).await, []);
    }

    async fn the_first_claim_wins_and_its_redelivery_goes_on(&self) {
        let first = self.claim("first", 1, "a");
        assert_eq!(self.ask_one(&first, self.start).await, ClaimVerdict::New);
        // As after a crash or a lost answer.
        assert_eq!(self.ask_one(&first, self.start).await, ClaimVerdict::Own, "a redelivery is not a duplicate");
        assert_eq!(self.ask_one(&self.claim("first", 2, "a"), self.start).await, taken_by(1, true));
        assert_eq!(self.ask_one(&first, self.start).await, ClaimVerdict::Own, "a copy does not change the owner");
    }

    /// Positions come back with other records. An owner from before there were digests is whatever is at its position.
    async fn another_record_at_the_owners_position_is_a_copy(&self) {
        let with = |id: &str, digest: Option<u8>| {
            let digest = digest.map(|byte| RecordDigest([byte; RecordDigest::BYTES]));
            Claim { origin: origin(1).with_digest(digest), ..self.claim(id, 1, "a") }
        };
        let first = with("digest", Some(1));
        assert_eq!(self.ask_one(&first, self.start).await, ClaimVerdict::New);
        assert_eq!(self.ask_one(&first, self.start).await, ClaimVerdict::Own);
        let taken = ClaimVerdict::Taken { owner: first.origin, same_payload: true };
        assert_eq!(self.ask_one(&with("digest", Some(2)), self.start).await, taken);
        assert_eq!(self.ask_one(&with("before", None), self.start).await, ClaimVerdict::New);
        assert_eq!(self.ask_one(&with("before", Some(1)), self.start).await, ClaimVerdict::Own);
    }

    async fn a_copy_is_told_whether_its_payload_differs(&self) {
        assert_eq!(self.ask_one(&self.claim("payload", 1, "a"), self.start).await, ClaimVerdict::New);
        assert_eq!(self.ask_one(&self.claim("payload", 2, "b"), self.start).await, taken_by(1, false));
        assert_eq!(self.ask_one(&self.claim("payload", 3, "a"), self.start).await, taken_by(1, true));
    }

    async fn a_claim_holds_for_its_window_and_not_longer(&self) {
        // Not a whole second, so that the test fails for a store that rounds the end down.
        let made_at = Timestamp::from_millis(self.start.as_millis() / 1000 * 1000 + 999);
        assert_eq!(self.ask_one(&self.claim("window", 1, "a"), made_at).await, ClaimVerdict::New);
        assert_eq!(self.ask_one(&self.claim("window", 2, "a"), self.within(made_at)).await, taken_by(1, true));
        let later = self.past(made_at);
        assert_eq!(self.ask_one(&self.claim("window", 2, "b"), later).await, ClaimVerdict::New, "expired");
        assert_eq!(self.ask_one(&self.claim("window", 2, "b"), later).await, ClaimVerdict::Own);
        assert_eq!(self.ask_one(&self.claim("window", 1, "a"), later).await, taken_by(2, false), "taken over");
        let second_window = self.within(later);
        assert_eq!(self.ask_one(&self.claim("window", 3, "b"), second_window).await, taken_by(2, true));
    }

    async fn repeats_do_not_extend_the_window(&self) {
        let (own, other) = (self.claim("repeat", 1, "a"), self.claim("repeat", 2, "a"));
        assert_eq!(self.ask_one(&own, self.start).await, ClaimVerdict::New);
        let half = self.start.plus(self.ttl / 2);
        assert_eq!(self.ask_one(&own, half).await, ClaimVerdict::Own);
        assert_eq!(self.ask_one(&other, half).await, taken_by(1, true));
        assert_eq!(self.ask_one(&other, self.past(self.start)).await, ClaimVerdict::New);
    }

    async fn an_expired_claim_of_ones_own_is_new_again(&self) {
        let claim = self.claim("again", 1, "a");
        assert_eq!(self.ask_one(&claim, self.start).await, ClaimVerdict::New);
        let later = self.past(self.start);
        assert_eq!(
            self.ask_one(&claim, later).await,
            ClaimVerdict::New,
            "a claim that has expired is answered as if it did not exist"
        );
        assert_eq!(self.ask_one(&self.claim("again", 2, "a"), self.within(later)).await, taken_by(1, true));
    }

    async fn ids_are_scoped_by_tenant_and_compared_byte_by_byte(&self) {
        let long = "é".repeat(100);
        let ids = [
            "Straße",
            "strasse",
            "日本語 🦀",
            "cafe\u{301}",
            "caf\u{e9}",
            "it's ? \"quoted\" \\ {x: 1}",
            "a",
            "A",
            "a ",
            &long,
        ];
        let claims: Vec<Claim> = ids.iter().zip(1..).map(|(id, offset)| self.claim(id, offset, "a")).collect();
        assert_eq!(self.ask(&claims, self.start).await, vec![ClaimVerdict::New; ids.len()]);
        assert_eq!(self.ask(&claims, self.start).await, vec![ClaimVerdict::Own; ids.len()]);

        let mut elsewhere = self.claim("Straße", 99, "a");
        elsewhere.key.tenant = TenantId::new("contract-2").expect("a tenant");
        assert_eq!(self.ask_one(&elsewhere, self.start).await, ClaimVerdict::New, "another tenant's id");
    }

    async fn a_large_call_is_answered_in_order(&self) {
        const CLAIMS: i64 = 1_000;
        let id = |n: i64| format!("large-{n}");
        // One third is already claimed by its own origin, and one third by another.
        let before: Vec<Claim> = (0..CLAIMS)
            .filter(|n| n % 3 != 0)
            .map(|n| self.claim(&id(n), if n % 3 == 1 { n } else { n + CLAIMS }, "a"))
            .collect();
        assert_eq!(self.ask(&before, self.start).await, vec![ClaimVerdict::New; before.len()]);

        let claims: Vec<Claim> =
            (0..CLAIMS).rev().map(|n| self.claim(&id(n), n, if n % 2 == 0 { "a" } else { "b" })).collect();
        let expected: Vec<ClaimVerdict> = (0..CLAIMS)
            .rev()
            .map(|n| match n % 3 {
                0 => ClaimVerdict::New,
                1 => ClaimVerdict::Own,
                _ => taken_by(n + CLAIMS, n % 2 == 0),
            })
            .collect();
        assert_eq!(self.ask(&claims, self.start).await, expected);
    }

    async fn one_of_many_concurrent_claimers_wins(&self) {
        for round in 0..8 {
            self.race(&format!("race-{round}"), self.start).await;
        }
    }

    async fn one_of_many_concurrent_claimers_takes_an_expired_claim_over(&self) {
        for round in 0..8 {
            let id = format!("takeover-{round}");
            assert_eq!(self.ask_one(&self.claim(&id, 1_000, "a"), self.start).await, ClaimVerdict::New);
            self.race(&id, self.past(self.start)).await;
        }
    }

    /// Sixteen origins claim one free id concurrently: one wins, and the others get its origin.
    async fn race(&self, id: &str, now: Timestamp) {
        let claims: Vec<Claim> = (0..16).map(|offset| self.claim(id, offset, "a")).collect();
        let verdicts = join_all(claims.iter().map(|claim| self.ask_one(claim, now))).await;
        let winners: Vec<&Claim> = claims
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| **verdict == ClaimVerdict::New)
            .map(|(c, _)| c)
            .collect();
        let [winner] = winners[..] else { panic!("{id}: not exactly one origin wins: {verdicts:?}") };
        for (claim, verdict) in claims.iter().zip(&verdicts).filter(|(claim, _)| *claim != winner) {
            let expected = ClaimVerdict::Taken { owner: winner.origin.clone(), same_payload: true };
            assert_eq!(*verdict, expected, "{id}: {}", claim.origin);
        }
    }

    /// Several processors claim overlapping batches in different orders, as for copies in different partitions.
    async fn concurrent_calls_may_overlap_in_any_order(&self) {
        const CALLERS: i64 = 6;
        const IDS: i64 = 60;
        let calls: Vec<Vec<Claim>> = (0..CALLERS)
            .map(|caller| {
                let mut claims: Vec<Claim> = (0..IDS)
                    .map(|n| self.claim(&format!("overlap-{}", (n + caller * 17) % IDS), caller * IDS + n, "a"))
                    .collect();
                if caller % 2 == 1 {
                    claims.reverse();
                }
                claims
            })
            .collect();
        let answers = join_all(calls.iter().map(|claims| self.ask(claims, self.start))).await;
        for n in 0..IDS {
            let key = self.key(&format!("overlap-{n}"));
            let of_key: Vec<(&Claim, &ClaimVerdict)> = calls
                .iter()
                .zip(&answers)
                .flat_map(|(claims, verdicts)| claims.iter().zip(verdicts))
                .filter(|(claim, _)| claim.key == key)
                .collect();
            let winners = of_key.iter().filter(|(_, verdict)| **verdict == ClaimVerdict::New).count();
            assert_eq!((of_key.len(), winners), (6, 1), "{key}: {of_key:?}");
        }
    }
}

fn origin(offset: i64) -> Origin {
    Origin::new("contract", 0, offset)
}

fn taken_by(offset: i64, same_payload: bool) -> ClaimVerdict {
    ClaimVerdict::Taken { owner: origin(offset), same_payload }
}
