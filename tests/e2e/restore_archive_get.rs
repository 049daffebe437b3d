//! The contract of `archive-get`: 0 for a file, 1 for what is proven not to exist, and for anything
//! else a code that Postgres does not take for the end of the archive.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use crate::harness::{Pgkeep, Postgres, SmallDisk, Workdir, run};

/// See docs/errors.md.
const ABSENT: i32 = 1;
/// From here on Postgres does not take an exit code for the end of the archive.
const FAULT_MIN: i32 = 126;

#[tokio::test]
async fn what_the_pin_allows_is_given_and_what_lies_beyond_is_absent() {
    let workdir = Workdir::new("restore");
    let asked = Asked::make(&workdir).await;
    let inside = asked.segment(TimelineId::FIRST, asked.end);
    let (destination, code) = asked.ask(&["--pin", &inside]).await;
    assert_eq!(code, Some(0));
    let served = fs::read(&destination).unwrap();
    let written = fs::read(asked.server.data().join("pg_wal").join(&inside)).unwrap();
    let size = asked.size();
    let cut = usize::try_from(asked.end.since(size.start_of(asked.end))).unwrap();
    assert_eq!(served.len(), written.len(), "always of full size");
    assert!(served[..cut] == written[..cut], "{inside} differs before {}", asked.end);
    assert!(served[cut..].iter().all(|byte| *byte == 0), "something is shown beyond the end");
    fs::remove_file(destination).unwrap();

    let behind = asked.segment(TimelineId::FIRST, size.end_of(asked.end));
    let is_archived = asked.keep.repository().join("main/0001/wal/00000001").join(&behind);
    assert!(is_archived.exists(), "{behind} is in the repository, and not for this directory");
    let off_path = asked.segment(TimelineId::new(2).unwrap(), asked.end);
    for name in [&behind, &off_path, "00000002.history", "00000009.history"] {
        asked.expect(&["--pin", name], |code| code == Some(ABSENT)).await;
    }
    // Without a pin, absent is what nobody ever wrote.
    asked.expect(&["0000000100000000000000F0"], |code| code == Some(ABSENT)).await;
    println!("{inside} was given up to {}; 5 names are proven to be absent", asked.end);
}

#[tokio::test]
async fn every_other_end_of_archive_get_is_a_fault_and_leaves_no_file() {
    let workdir = Workdir::new("restore");
    let asked = Asked::make(&workdir).await;
    let name = asked.segment(TimelineId::FIRST, asked.end);
    let keep = &asked.keep;

    for arguments in [
        &["--pin", "garbage"][..],
        &["--pin", "0000000100000000"],
        // No cluster with segments of 1 MB has it.
        &["--pin", "000000010000000000001000"],
        &["--unknown", &name],
        &["--cluster", "other", "--pin", &name],
    ] {
        asked.expect(arguments, is_fault).await;
    }

    let mut without_pin = keep.command(&["archive-get", "--pin", &name, "ASKED"]);
    without_pin.current_dir(workdir.subdirectory("empty"));
    assert!(is_fault(run(without_pin).await.code), "without a pin");

    let other = Pgkeep::archiving(&workdir, "other", &asked.server).await;
    let mut foreign = other.command(&["archive-get", "--pin", &name, "pg_wal/ASKED"]);
    foreign.current_dir(&asked.data);
    assert!(is_fault(run(foreign).await.code), "out of another repository");

    let cluster = keep.repository().join("main/0001");
    for hidden in [keep.config(), keep.repository(), cluster.clone(), cluster.join("wal")] {
        let mode = fs::metadata(&hidden).unwrap().permissions();
        fs::set_permissions(&hidden, Permissions::from_mode(0o000)).unwrap();
        asked.expect(&["--pin", &name], is_fault).await;
        fs::set_permissions(&hidden, mode).unwrap();
    }
    for missing in [keep.config(), keep.repository(), cluster] {
        let away = missing.with_extension("away");
        fs::rename(&missing, &away).unwrap();
        asked.expect(&["--pin", &name], is_fault).await;
        fs::rename(&away, &missing).unwrap();
    }

    let mut panics = asked.command(&["--pin", &name]);
    panics.env("PGKEEP_FAILPOINT", "archive_get=panic");
    assert_eq!(run(panics).await.code, None, "a panic ends the process by a signal");
    asked.expect(&["--pin", &name], |code| code == Some(0)).await;
    println!("15 faults, none of which Postgres takes for the end of the archive");
}

#[tokio::test]
async fn a_full_disk_is_a_fault_and_leaves_no_file() {
    let workdir = Workdir::new("restore");
    let asked = Asked::make(&workdir).await;
    let place = workdir.path().join("small");
    let Some(disk) = SmallDisk::mount(&place, 2).await else {
        println!("not root: no disk can be mounted, nothing was tried");
        return;
    };
    let name = asked.segment(TimelineId::FIRST, asked.end);
    let destination = place.join(&name);
    let verb = ["archive-get", "--pin", &name, destination.to_str().unwrap()];
    let get = async || {
        let mut command = asked.keep.command(&verb);
        command.current_dir(&asked.data);
        run(command).await
    };
    disk.fill();
    let finished = get().await;
    assert!(is_fault(finished.code), "{finished:?}");
    let left: Vec<_> = fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [".filler"], "something was left behind");
    disk.free();
    get().await.expect_success();
    assert_eq!(fs::metadata(&destination).unwrap().len(), asked.size().bytes());
    println!("a full disk: {:?}; with room for it, {name} came", finished.code);
}

fn is_fault(code: Option<i32>) -> bool {
    code.is_none_or(|code| code >= FAULT_MIN)
}

/// A restored directory that asks, whose end lies in the middle of what is archived.
struct Asked {
    server: Postgres,
    keep: Pgkeep,
    data: PathBuf,
    end: Lsn,
}

impl Asked {
    async fn make(workdir: &Workdir) -> Self {
        let server =
            Postgres::build(workdir, "server").setting("wal_keep_size", "1GB").start().await;
        let mut keep = Pgkeep::archiving(workdir, "keep", &server).await;
        keep.json(&["backup"]).await;
        server.switch_wal().await;
        server.sql("create table moments as select generate_series(1, 100) as id").await;
        let target = server.flush_lsn().await;
        for _ in 0..3 {
            server.sql("insert into moments select generate_series(1, 100)").await;
            server.switch_wal().await;
        }
        keep.wait_archived(server.finish_segment().await).await;
        assert!(keep.terminate().await.success());
        let restored = Postgres::without_data(workdir, "restored");
        let told = keep.restore(&restored, &["--to", &format!("lsn:{target}")]).await;
        let end: Lsn = told["plan"]["end"].as_str().unwrap().parse().unwrap();
        assert!(end >= target, "{told}");
        Self { server, keep, data: restored.data().to_owned(), end }
    }

    fn size(&self) -> pgkeep_proto::SegmentSize {
        pgkeep_proto::SegmentSize::new(1 << 20).unwrap()
    }

    fn segment(&self, timeline: TimelineId, lsn: Lsn) -> String {
        SegmentName::containing(timeline, lsn, self.size()).to_string()
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.keep.command(&["archive-get"]);
        command.args(arguments).arg("pg_wal/ASKED").current_dir(&self.data);
        command
    }

    /// Asks as Postgres does; where the file would be, and the exit code.
    async fn ask(&self, arguments: &[&str]) -> (PathBuf, Option<i32>) {
        let destination = self.data.join("pg_wal/ASKED");
        (destination, run(self.command(arguments)).await.code)
    }

    /// Asks, and sees that there is a file only if the answer was 0, and nothing half-written.
    async fn expect(&self, arguments: &[&str], is_right: impl Fn(Option<i32>) -> bool) {
        let before = names(&self.data.join("pg_wal"));
        let (destination, code) = self.ask(arguments).await;
        assert!(is_right(code), "{arguments:?} ended with {code:?}");
        assert_eq!(destination.exists(), code == Some(0), "{arguments:?}");
        let _ = fs::remove_file(destination);
        assert_eq!(names(&self.data.join("pg_wal")), before, "{arguments:?} left something");
    }
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}
