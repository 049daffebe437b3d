//! A server that is still to be made.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;

use super::postgres::Postgres;
use super::template::InitOptions;

/// Everybody is trusted on the Unix socket, so that the harness needs no password. Nobody on TCP.
const ACCESS_RULES: &str = "\
local all,replication all trust
host all,replication all 127.0.0.1/32 scram-sha-256
";

/// What a new server shall be.
#[derive(Debug)]
pub(crate) struct PostgresBuilder {
    server: Postgres,
    init: InitOptions,
    has_own_system_id: bool,
    settings: Vec<(String, String)>,
}

impl PostgresBuilder {
    pub(super) fn new(server: Postgres) -> Self {
        Self {
            server,
            init: InitOptions { segment_size_mb: 1, checksums: true },
            has_own_system_id: false,
            settings: Vec::new(),
        }
    }

    /// Size of its WAL segments; 1 MB unless said otherwise.
    pub(crate) fn segment_size_mb(mut self, size: u32) -> Self {
        self.init.segment_size_mb = size;
        self
    }

    /// Makes a cluster without checksums of data pages.
    pub(crate) fn without_checksums(mut self) -> Self {
        self.init.checksums = false;
        self
    }

    /// Gives it a system identifier that no other server of any test has.
    pub(crate) fn own_system_id(mut self) -> Self {
        self.has_own_system_id = true;
        self
    }

    /// Lets it listen on 127.0.0.1 too, and demand SCRAM-SHA-256 there.
    pub(crate) fn tcp(mut self) -> Self {
        // Free a moment ago; nothing better can be had of a server that takes no open socket.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.server.port = listener.local_addr().unwrap().port();
        self.server.is_on_tcp = true;
        self
    }

    /// A line of its postgresql.conf.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the cluster and starts the server.
    pub(crate) async fn start(self) -> Postgres {
        let mut server = self.server;
        if self.has_own_system_id {
            self.init.initdb(&server.data).await;
        } else {
            self.init.copy_template(&server.data).await;
        }
        let mut configuration = "shared_buffers = 16MB\nlog_replication_commands = on\n".to_owned();
        for (name, value) in &self.settings {
            writeln!(configuration, "{name} = '{}'", value.replace('\'', "''")).unwrap();
        }
        let mut file =
            File::options().append(true).open(server.data.join("postgresql.conf")).unwrap();
        file.write_all(configuration.as_bytes()).unwrap();
        fs::write(server.data.join("pg_hba.conf"), ACCESS_RULES).unwrap();
        server.start().await;
        server
    }
}
