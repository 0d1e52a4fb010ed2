//! F10: clocks of processes an hour off, each another way, and jumping while they run (libfaketime).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;

use crate::evidence::Row;
use crate::load::Load;
use crate::scenarios::conduct::Conduct;
use crate::trial::{self, ChaosRun, Setup};

/// Functions that ask what time it is.
const WITH_CLOCKS: [&str; 3] = ["ingest", "processor", "archiver"];
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Seconds. Two minutes are more than a call may take, so its deadline has passed when it comes; an hour is so much that
/// it cannot be true.
const AHEAD: [i64; 5] = [-HOUR, HOUR, 0, 120, 20];
/// Of the Debian package `libfaketime`; the middle is the machine's triplet.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A clock for each function, in a file that libfaketime looks at ten times a second.
struct Clocks {
    folder: PathBuf,
}

impl Clocks {
    /// Makes, in `folder`, programs that set a clock and become those in `binaries`.
    fn wrap(library: &str, binaries: &Path, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let clocks = Clocks { folder: folder.to_owned() };
        for binary in fs::read_dir(binaries)? {
            let binary = binary?.path().canonicalize()?;
            let name = binary.file_name().context("a program without a name")?.to_string_lossy().into_owned();
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
        // In one step: a process may read it at any time.
        let next = self.folder.join("next.clock");
        fs::write(&next, format!("{ahead:+}\n"))?;
        Ok(fs::rename(next, self.file(function))?)
    }
}

/// Ids are remembered for two hours, which is just how far apart two of our clocks can be: what one process claims may
/// have run out for the next. Near midnight for longer, because copies that lie further apart than that and on two days
/// are two events by design (`PostgresEventStore::new`).
fn dedup_ttl(now: i64) -> i64 {
    let near_midnight = (now + 2 * HOUR).rem_euclid(DAY) < 4 * HOUR;
    if near_midnight { DAY } else { 2 * HOUR }
}

#[expect(clippy::disallowed_methods, reason = "the machine's clock is what the functions' clocks are held against")]
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
        // Copies come at any time after the first, so most of them by another clock.
        load: Load { events: run.size(4_000, 30_000), rate: 200, copies: 0.3, ..Load::default() },
        settings: vec![("DEDUP_TTL_SEC".to_owned(), dedup_ttl(began).to_string())],
        binaries: Some(folder.clone()),
        ..Setup::default()
    };
    let jump = async |scene: &mut trial::Scene| {
        let mut faults = 0;
        while scene.loading() {
            let function = WITH_CLOCKS[faults % WITH_CLOCKS.len()];
            // Each in turn, and each another way than the one before.
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
            "of {} rows {} were received and {} stored by a clock behind, {} and {} by one ahead",
            evidence.rows.len(),
            received.0,
            stored.0,
            received.1,
            stored.1,
        ));
        if [received.0, received.1, stored.0, stored.1].contains(&0) {
            findings.add("--", "a clock did not go both ways: this proves nothing");
        }
    })
    .await?;
    fs::remove_dir_all(&folder)?;
    Ok(Conduct::Done(vec![trial]))
}
