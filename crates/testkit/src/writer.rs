//! A client as applications are: it writes numbered rows one after the other to whichever server accepts them, and
//! remembers what was acknowledged, by whom, and when.

use crate::postgres::PASSWORD;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// An acknowledged row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The row's number.
    pub id: i64,
    /// The place of the server in the list of ports.
    pub node: usize,
    /// When the acknowledgement arrived.
    pub at: Instant,
}

/// The client; it ends when dropped.
pub struct Writer {
    acks: Arc<Mutex<Vec<Ack>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins to write into the table `ledger (id bigint primary key)`, which must exist, with the row of this number.
    pub fn start(ports: Vec<u16>, first: i64) -> Self {
        let (acks, end) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (ledger, over) = (Arc::clone(&acks), end.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(write(&ports, first, &ledger, &over));
        });
        Self { acks, end, thread: Some(thread) }
    }
    /// What was acknowledged so far, in order.
    pub fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Ends it and gives what was acknowledged.
    pub fn stop(mut self) -> Vec<Ack> {
        self.join();
        self.acks()
    }
    fn join(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join();
    }
}

/// A connection as superuser to the server on this port.
pub async fn connect(port: u16) -> Option<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password(PASSWORD).dbname("postgres");
    let (client, connection) = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await.ok()?.ok()?;
    tokio::spawn(connection);
    Some(client)
}

async fn write(ports: &[u16], first: i64, acks: &Mutex<Vec<Ack>>, end: &AtomicBool) {
    let mut next = first;
    while !end.load(Ordering::Relaxed) {
        for (node, port) in ports.iter().enumerate() {
            if let Some(client) = connect(*port).await {
                while !end.load(Ordering::Relaxed) && insert(&client, next).await {
                    let ack = Ack { id: next, node, at: Instant::now() };
                    acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
                    next += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                // Whether the last one was written is not known: its number is not used again.
                next += 1;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn insert(client: &Client, id: i64) -> bool {
    let text = format!("INSERT INTO ledger (id) VALUES ({id})");
    matches!(tokio::time::timeout(PATIENCE, client.batch_execute(&text)).await, Ok(Ok(())))
}
