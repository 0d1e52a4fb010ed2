//! Places where the fault suite ends the process, as a crash would.
//!
//! Compiled only with the feature `failpoints`, which only the fault suite turns on: in any other build
//! [`failpoint!`](crate::failpoint!) expands to nothing. The variable `FAILPOINTS` arms failpoints, in the syntax of
//! the crate `fail`: `processor::claimed=3*off->return` ends the process when it reaches that failpoint for the fourth
//! time.

/// Names a place between two steps.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
}

/// Names a place between two steps.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::pass($name)
    };
}

/// Ends the process if the failpoint is armed: no destructor runs and nothing is flushed.
#[cfg(feature = "failpoints")]
pub fn pass(name: &str) {
    static START: std::sync::Once = std::sync::Once::new();
    // Reads FAILPOINTS. Leaked on purpose, because its destructor would disarm the failpoints.
    START.call_once(|| std::mem::forget(fail::FailScenario::setup()));
    fail::fail_point!(name, |_| std::process::abort());
}
