//! A table that many sessions write, and what of it was committed before any moment.
//!
//! The judge is Postgres alone: `pg_waldump` says in which order transactions ended and when,
//! `pg_xact_commit_timestamp` must agree with it, and each row names the transaction that wrote it.

use std::collections::BTreeMap;
use std::fs;

use jiff::Timestamp;
use pgkeep_proto::Lsn;

use super::child::Child;
use super::command::run;
use super::postgres::Postgres;
use super::workdir::Workdir;

const TABLE: &str = "create table ledger (id bigserial primary key, \
    xid text default pg_current_xact_id()::text, payload text default md5(random()::text))";

/// Mostly single rows; transactions of several, with a part that is rolled back; and aborts.
const LOAD: &str = r"
\set kind random(1, 10)
\if :kind = 1
begin; insert into ledger default values; rollback;
\elif :kind = 2
begin; insert into ledger default values; savepoint part; insert into ledger default values;
rollback to part; insert into ledger default values; commit;
\else
insert into ledger default values;
\endif
";

/// What a server's WAL and its table `ledger` say together.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// All ends of transactions, in the order of WAL.
    pub(crate) ends: Vec<XactEnd>,
    rows: BTreeMap<String, Vec<String>>,
}

/// The end of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct XactEnd {
    /// Start of its record.
    pub(crate) lsn: Lsn,
    /// When it was.
    pub(crate) at: Timestamp,
    /// Whether it is a commit of rows of the ledger.
    pub(crate) has_rows: bool,
    xid: String,
    is_commit: bool,
}

impl Ledger {
    /// Makes the table.
    pub(crate) async fn create(server: &Postgres) {
        server.sql(TABLE).await;
    }

    /// Starts to write it from many sessions, so many transactions each.
    pub(crate) fn load(workdir: &Workdir, server: &Postgres, transactions: u32) -> Child {
        let script = workdir.path().join("load.sql");
        fs::write(&script, LOAD).unwrap();
        let transactions = transactions.to_string();
        let script = script.to_str().unwrap();
        server.start_pgbench(&["-n", "-c", "8", "-j", "2", "-t", &transactions, "-f", script])
    }

    /// Reads it, with the WAL of the server's timeline from `start` on. Nobody may write meanwhile.
    pub(crate) async fn read(server: &Postgres, start: Lsn) -> Self {
        let mut ends = xact_ends(server, start).await;
        let sql = "select xid, l::text, \
            to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', \
            'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from ledger l order by id";
        let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut times: BTreeMap<String, Timestamp> = BTreeMap::new();
        for mut row in server.sql(sql).await {
            times.insert(row[0].clone(), row[2].parse().unwrap());
            rows.entry(row.swap_remove(0)).or_default().push(row.swap_remove(1));
        }
        for end in ends.iter_mut().filter(|end| rows.contains_key(&end.xid)) {
            assert_eq!(times.get(&end.xid), Some(&end.at), "Postgres disagrees about {end:?}");
            end.has_rows = true;
        }
        let committed = ends.iter().filter(|end| end.has_rows).count();
        assert_eq!(committed, rows.len(), "a transaction of the ledger has no end in WAL");
        Self { ends, rows }
    }

    /// The rows in a server that has replayed all ends before the first one later than `at`.
    pub(crate) fn rows_at(&self, at: Timestamp) -> Vec<String> {
        self.rows_of(self.ends.iter().take_while(|end| end.at <= at))
    }

    /// The rows in a server that has replayed all records up to the one that begins at `lsn`.
    pub(crate) fn rows_up_to(&self, lsn: Lsn) -> Vec<String> {
        self.rows_of(self.ends.iter().take_while(|end| end.lsn <= lsn))
    }

    /// All rows.
    pub(crate) fn rows(&self) -> Vec<String> {
        self.rows_of(self.ends.iter())
    }

    fn rows_of<'a>(&self, ends: impl Iterator<Item = &'a XactEnd>) -> Vec<String> {
        let committed = ends.filter(|end| end.is_commit);
        let mut rows: Vec<_> =
            committed.filter_map(|end| self.rows.get(&end.xid)).flatten().cloned().collect();
        rows.sort();
        rows
    }

    /// The rows that `server` holds.
    pub(crate) async fn rows_in(server: &Postgres) -> Vec<String> {
        let rows = server.sql("select l::text from ledger l").await;
        let mut rows: Vec<_> = rows.into_iter().flatten().collect();
        rows.sort();
        rows
    }
}

/// All commits and aborts from `start` on, as `pg_waldump` shows them.
async fn xact_ends(server: &Postgres, start: Lsn) -> Vec<XactEnd> {
    let timeline = server.value("select timeline_id from pg_control_checkpoint()").await;
    let mut command = server.client("pg_waldump");
    command.arg("--path").arg(server.data().join("pg_wal")).args(["--rmgr", "Transaction"]);
    command.args(["--timeline", &timeline, "--start", &start.to_string()]);
    command.args(["--end", &server.flush_lsn().await.to_string()]);
    run(command).await.expect_success().lines().filter_map(xact_end).collect()
}

/// `… tx: 735, lsn: 0/01500028, prev …, desc: COMMIT 2026-11-22 14:00:00.123456 UTC; …`
fn xact_end(line: &str) -> Option<XactEnd> {
    let (_, rest) = line.split_once("tx: ")?;
    let (xid, rest) = rest.split_once(", lsn: ")?;
    let (lsn, rest) = rest.split_once(", prev")?;
    let (_, description) = rest.split_once("desc: ")?;
    let (what, rest) = description.split_once(' ')?;
    if what != "COMMIT" && what != "ABORT" {
        return None;
    }
    let time = rest.split(" UTC").next()?;
    Some(XactEnd {
        lsn: lsn.parse().unwrap(),
        at: format!("{time}Z").parse().unwrap_or_else(|error| panic!("{line}: {error}")),
        has_rows: false,
        xid: xid.trim().to_owned(),
        is_commit: what == "COMMIT",
    })
}
