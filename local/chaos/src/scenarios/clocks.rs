//! F10: the clocks of processes are wrong by an hour in different directions, and jump while they run (libfaketime).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;

use crate::evidence::Row;
use crate::load::Load;
use crate::scenarios::conduct::Conduct;
use crate::trial::{self, ChaosRun, Setup};

/// The functions that read the clock.
const WITH_CLOCKS: [&str; 3] = ["ingest", "processor", "archiver"];
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Seconds. Two minutes are more than the timeout of a call, so its deadline has passed when it arrives; an hour is so
/// much that the deadline cannot be right.
const AHEAD: [i64; 5] = [-HOUR, HOUR, 0, 120, 20];
/// Where the Debian package `libfaketime` installs the library on each architecture.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A clock for each function, in a file that libfaketime reads ten times a second.
struct Clocks {
    folder: PathBuf,
}

impl Clocks {
    /// Writes scripts into `folder` that set up the clock and then execute the programs in `binaries`.
    fn wrap(library: &str, binaries: &Path, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let clocks = Clocks { folder: folder.to_owned() };
        for binary in fs::read_dir(binaries)? {
            let binary = binary?.path().canonicalize()?;
            let name = binary.file_name().context("the path of a program has no name")?.to_string_lossy().into_owned();
            let mut script = "#!/bin/sh\n".to_owned();
            if WITH_CLOCKS.contains(&name.as_str()) {
                clocks.set(&name, 0)?;
                script += &format!(
                    "export LD_PRELOAD='{library}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_UPDATE_TIMESTAMP_FILE=0\n\
                     export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1\n",
                    clocks.file(&name).display()
                );
            }
            script += &format!("exec '{}'\n", binary.display());
            let wrapper = folder.join(&name);
            fs::write(&wrapper, script)?;
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        }
        Ok(clocks)
    }

    fn file(&self, function: &str) -> PathBuf {
        self.folder.join(format!("{function}.clock"))
    }

    /// Seconds ahead of the machine's clock.
    fn set(&self, function: &str, ahead: i64) -> anyhow::Result<()> {
        // Renamed in one step, because a process may read the file at any time.
        let next = self.folder.join("next.clock");
        fs::write(&next, format!("{ahead:+}\n"))?;
        Ok(fs::rename(next, self.file(function))?)
    }
}

/// Ids are remembered for two hours, which is exactly the largest difference between two of our clocks: the claim of
/// one process may have expired for another. Near midnight they are remembered for longer, because copies that are
/// further apart and on two days are two events by design (`PostgresEventStore::new`).
fn dedup_ttl(now: i64) -> i64 {
    let near_midnight = (now + 2 * HOUR).rem_euclid(DAY) < 4 * HOUR;
    if near_midnight { DAY } else { 2 * HOUR }
}

#[expect(clippy::disallowed_methods, reason = "the functions' clocks are compared with the machine's clock")]
fn now() -> anyhow::Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())?)
}

pub async fn clocks_off(run: &ChaosRun) -> anyhow::Result<Conduct> {
    let Some(library) = LIBRARIES.into_iter().find(|library| Path::new(library).exists()) else {
        return Ok(Conduct::NotHere("libfaketime is missing (Debian package `libfaketime`)".to_owned()));
    };
    let folder = run.folder.join("F10").join("programs");
    let clocks = Clocks::wrap(library, &run.binaries, &folder)?;
    let began = now()?;
    let setup = Setup {
        // Copies arrive at any time after the first event, so most of them get another clock.
        load: Load { events: run.size(4_000, 30_000), rate: 200, copies: 0.3, ..Load::default() },
        settings: vec![("DEDUP_TTL_SEC".to_owned(), dedup_ttl(began).to_string())],
        binaries: Some(folder.clone()),
        ..Setup::default()
    };
    let jump = async |scene: &mut trial::Scene| {
        let mut faults = 0;
        while scene.loading() {
            let function = WITH_CLOCKS[faults % WITH_CLOCKS.len()];
            // The functions take turns, and each gets another time than the one before.
            let ahead = AHEAD[(faults / WITH_CLOCKS.len() + faults) % AHEAD.len()];
            clocks.set(function, ahead)?;
            faults += 1;
            scene.pause(300..2_000).await;
        }
        for function in WITH_CLOCKS {
            clocks.set(function, 0)?;
        }
        Ok(faults)
    };
    let trial = trial::run_and_examine(run, "F10", setup, jump, |evidence, findings| {
        let behind = |at: i64| at / 1_000 - began < -HOUR / 2;
        let ahead = |at: i64| at / 1_000 - began > HOUR / 2;
        let count = |is: &dyn Fn(&Row) -> bool| evidence.rows.iter().filter(|row| is(row)).count();
        let received = (count(&|row| behind(row.received_at)), count(&|row| ahead(row.received_at)));
        let stored = (count(&|row| behind(row.stored_at)), count(&|row| ahead(row.stored_at)));
        findings.notes.push(format!(
            "of {} rows, clocks that were behind received {} and stored {}, clocks that were ahead {} and {}",
            evidence.rows.len(),
            received.0,
            stored.0,
            received.1,
            stored.1,
        ));
        if [received.0, received.1, stored.0, stored.1].contains(&0) {
            findings.add("--", "the clocks were not wrong in both directions, so the trial is not valid");
        }
    })
    .await?;
    fs::remove_dir_all(&folder)?;
    Ok(Conduct::Done(vec![trial]))
}
