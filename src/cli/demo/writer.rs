//! A client as applications are: it writes rows one after the other, to whoever is primary, and remembers which were
//! acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// A row that was acknowledged.
#[derive(Clone)]
pub struct Ack {
    pub id: i64,
    pub at: Instant,
    /// By the server on this port.
    pub by: u16,
}

/// All of them, in order.
pub type Ledger = Arc<Mutex<Vec<Ack>>>;

/// A connection as superuser to the server on this port.
pub async fn connect(port: u16) -> Result<Client, String> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password("demo-super").dbname("postgres");
    config.options("-c statement_timeout=2000").connect_timeout(PATIENCE);
    let connecting = tokio::time::timeout(PATIENCE, config.connect(NoTls)).await;
    let (client, connection) = connecting.map_err(|_| "no answer".to_owned())?.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(client)
}

/// Write until the task is dropped. The connection goes to whichever server accepts writes.
pub async fn write(ports: Vec<u16>, ledger: Ledger) {
    let mut next = 1;
    loop {
        for port in &ports {
            if let Ok(client) = connect(*port).await {
                write_while_it_works(&client, *port, &mut next, &ledger).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn write_while_it_works(client: &Client, by: u16, next: &mut i64, ledger: &Ledger) {
    loop {
        let id = *next;
        let insert = async { client.execute("INSERT INTO demo (id) VALUES ($1)", &[&id]).await };
        match tokio::time::timeout(PATIENCE, insert).await {
            Ok(Ok(1)) => ledger.lock().unwrap_or_else(PoisonError::into_inner).push(Ack { id, at: Instant::now(), by }),
            _ => {
                // whether it was written is not known: the number is not used again
                *next += 1;
                return;
            }
        }
        *next += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Every row there is.
pub async fn rows(port: u16) -> Result<Vec<i64>, String> {
    let client = connect(port).await?;
    let rows = client.query("SELECT id FROM demo ORDER BY id", &[]).await.map_err(|e| e.to_string())?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// GET, and only the status code of the answer.
pub async fn http_status(url: &str) -> Option<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (address, path) = url.strip_prefix("http://")?.split_once('/')?;
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = [0u8; 12];
        stream.read_exact(&mut head).await.ok()?;
        std::str::from_utf8(&head).ok()?.split(' ').nth(1)?.parse().ok()
    };
    tokio::time::timeout(PATIENCE, ask).await.ok()?
}
