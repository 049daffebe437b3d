//! The wire between us and a server of objects, with faults at one chosen request.
//!
//! It passes bytes on as they come and knows of HTTP only where a request begins.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const CHUNK_SIZE: usize = 64 * 1024;

/// What a wire does besides passing on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Nothing.
    None,
    /// The next request that holds these texts reaches the server; its answer is lost.
    LoseAnswer(Vec<String>),
    /// Requests that hold these texts never get anywhere.
    Hold(Vec<String>),
    /// Buckets of tests do not exist: the server is asked for another name.
    HideBuckets,
    /// Every condition is taken away from requests: such a server overwrites what is there.
    ForgetConditions,
}

/// A wire to a server. It is cut when this is dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    trick: Mutex<Trick>,
    struck: Mutex<usize>,
}

impl Wire {
    /// A wire to `server` with a trick.
    pub(crate) async fn to(server: SocketAddr, trick: Trick) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trick, struck) = (Mutex::new(trick), Mutex::new(0));
        let shared = Arc::new(Shared { server, trick, struck });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// Its near end.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on another trick.
    pub(crate) fn play(&self, trick: Trick) {
        *self.shared.trick.lock().unwrap() = trick;
    }

    /// How many requests a trick has befallen.
    pub(crate) fn struck(&self) -> usize {
        *self.shared.struck.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        connections.spawn(pass(near, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(near: TcpStream, shared: Arc<Shared>) {
    let Ok(far) = TcpStream::connect(shared.server).await else { return };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let cut = Notify::new();
    let is_cut = Mutex::new(false);
    tokio::select! {
        () = pass_requests(near_read, far_write, &shared, &is_cut) => {}
        () = pass_answers(far_read, near_write, &is_cut, &cut) => {}
        () = cut.notified() => {}
    }
}

async fn pass_requests(
    mut near: OwnedReadHalf,
    mut far: OwnedWriteHalf,
    shared: &Shared,
    is_cut: &Mutex<bool>,
) {
    let mut chunk = vec![0; CHUNK_SIZE];
    while let Ok(length @ 1..) = near.read(&mut chunk).await {
        let trick = shared.trick.lock().unwrap().clone();
        let strike = || *shared.struck.lock().unwrap() += 1;
        match trick {
            Trick::Hold(texts) if holds(&chunk[..length], &texts) => {
                strike();
                std::future::pending::<()>().await;
            }
            Trick::LoseAnswer(texts) if holds(&chunk[..length], &texts) => {
                strike();
                *shared.trick.lock().unwrap() = Trick::None;
                *is_cut.lock().unwrap() = true;
            }
            Trick::HideBuckets if replace(&mut chunk[..length], b" /test-", b" /gone-") => strike(),
            Trick::ForgetConditions if forget_condition(&mut chunk[..length]) => strike(),
            _ => {}
        }
        if far.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

async fn pass_answers(
    mut far: OwnedReadHalf,
    mut near: OwnedWriteHalf,
    is_cut: &Mutex<bool>,
    cut: &Notify,
) {
    let mut chunk = vec![0; CHUNK_SIZE];
    while let Ok(length @ 1..) = far.read(&mut chunk).await {
        if *is_cut.lock().unwrap() {
            cut.notify_one();
            return;
        }
        if near.write_all(&chunk[..length]).await.is_err() {
            return;
        }
    }
}

fn holds(chunk: &[u8], texts: &[String]) -> bool {
    texts.iter().all(|text| find(chunk, text.as_bytes()).is_some())
}

fn find(chunk: &[u8], text: &[u8]) -> Option<usize> {
    chunk.windows(text.len()).position(|window| window == text)
}

/// Gives the header another name of the same length, which no server knows.
fn forget_condition(chunk: &mut [u8]) -> bool {
    replace(chunk, b"\r\nif-none-match: ", b"\r\nif-never-match:")
}

/// Puts `by` into the place of `text`, which is as long.
fn replace(chunk: &mut [u8], text: &[u8], by: &[u8]) -> bool {
    let Some(at) = find(chunk, text) else { return false };
    chunk[at..][..text.len()].copy_from_slice(by);
    true
}
