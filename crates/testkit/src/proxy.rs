//! A small TCP proxy for cutting the link between two programs. It runs on a thread of its own, so it works whatever
//! the test's thread does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the link does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Mode {
    Pass,
    /// Connections are dropped and refused.
    Cut,
    /// Connections stay open, new ones are accepted, and nothing gets through.
    Stall,
    /// Requests get through; that many answers too, then a connection is dropped when its answer comes, once.
    CutReply {
        after: u32,
    },
    /// Requests get through; answers never come.
    StallReplies,
    /// Requests get through; answers are spoiled.
    Spoil(Spoil),
    Ended,
}

/// What a hostile gateway makes of an answer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Spoil {
    /// Half of it, then the connection ends.
    Half,
    /// It comes so many milliseconds later.
    Late(u64),
    /// One letter or digit in its body is another one; which, changes from answer to answer.
    OneByte,
    /// Another HTTP status, with the body as it was.
    Status(u16),
    /// This status and body instead, whatever was done.
    Instead(u16, &'static str),
}

/// A link that can be broken in several ways and healed again.
pub struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and passes everything on to that port of 127.0.0.1.
    pub fn start(to_port: u16) -> Self {
        let mode = Arc::new(watch::Sender::new(Mode::Pass));
        let shared = mode.clone();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let port = listener.local_addr().expect("a bound port").port();
        let target = SocketAddr::from(([127, 0, 0, 1], to_port));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, target, shared));
        });
        Self { port, mode, thread: Some(thread) }
    }
    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }
    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    /// Drops all connections and refuses new ones.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }
    /// Keeps connections open and silent; accepts new ones.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }
    /// Lets requests through, and so many answers; then drops a connection instead of passing its answer on, and
    /// heals. For links that carry one request at a time with small answers.
    pub fn cut_one_reply(&self, after: u32) {
        self.mode.send_replace(Mode::CutReply { after });
    }
    /// Has the reply been cut?
    pub fn has_healed(&self) -> bool {
        *self.mode.borrow() == Mode::Pass
    }
    /// Lets requests through and keeps the answers.
    pub fn stall_replies(&self) {
        self.mode.send_replace(Mode::StallReplies);
    }
    /// Lets requests through and spoils every answer.
    pub fn spoil(&self, how: Spoil) {
        self.mode.send_replace(Mode::Spoil(how));
    }
    /// Everything gets through again.
    pub fn heal(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Ended);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(first: std::net::TcpListener, target: SocketAddr, switch: Arc<watch::Sender<Mode>>) {
    let mut mode = switch.subscribe();
    let address = first.local_addr().expect("a bound port");
    let mut listener = Some(TcpListener::from_std(first).expect("a listener on this runtime"));
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Ended => return,
            Mode::Cut => listener = None,
            _ if listener.is_none() => listener = Some(bind_again(address).await),
            _ => {}
        }
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => {
                if let Some(client) = accepted {
                    tokio::spawn(link(client, target, switch.clone()));
                }
            }
        }
    }
}

/// Somebody may hold the port for a moment.
async fn bind_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// One connection; its ends close when either direction does.
async fn link(client: TcpStream, target: SocketAddr, switch: Arc<watch::Sender<Mode>>) {
    let mut mode = switch.subscribe();
    let _ = client.set_nodelay(true);
    // A stalled link does not even reach the other side.
    if mode.wait_for(|m| *m != Mode::Stall).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = server.set_nodelay(true);
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        () = pump(client_in, server_out, &switch, false) => {}
        () = pump(server_in, client_out, &switch, true) => {}
        _ = mode.wait_for(|m| matches!(m, Mode::Cut | Mode::Ended)) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, switch: &watch::Sender<Mode>, replies: bool) {
    let mut mode = switch.subscribe();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        let held = move |m: &Mode| *m == Mode::Stall || (replies && *m == Mode::StallReplies);
        if mode.wait_for(|m| !held(m)).await.is_err() || (replies && reply_is_cut(switch)) {
            return;
        }
        let now = *mode.borrow_and_update();
        let (bytes, ends) = match now {
            Mode::Spoil(how) if replies => spoiled(how, &buffer[..n]).await,
            _ => (buffer[..n].to_vec(), false),
        };
        if to.write_all(&bytes).await.is_err() || ends {
            return;
        }
    }
}

/// The bytes to pass on instead, and whether the connection ends then.
async fn spoiled(how: Spoil, bytes: &[u8]) -> (Vec<u8>, bool) {
    static ANSWERS: AtomicUsize = AtomicUsize::new(0);
    let mut bytes = bytes.to_vec();
    match how {
        Spoil::Half => {
            bytes.truncate(bytes.len() / 2);
            return (bytes, true);
        }
        Spoil::Late(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
        Spoil::OneByte => {
            let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
            let plain: Vec<_> = (body..bytes.len()).filter(|at| bytes[*at].is_ascii_alphanumeric()).collect();
            if !plain.is_empty() {
                // a step that is prime to most lengths visits every place
                let at = plain[ANSWERS.fetch_add(1, Ordering::Relaxed) * 7919 % plain.len()];
                bytes[at] = if bytes[at] == b'7' { b'3' } else { b'7' };
            }
        }
        Spoil::Status(status) => {
            if let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(3..)) {
                bytes = [b"HTTP/1.1 ", status.to_string().as_bytes(), rest].concat();
            }
        }
        Spoil::Instead(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            return ([head.as_bytes(), body.as_bytes()].concat(), true);
        }
    }
    (bytes, false)
}

fn reply_is_cut(switch: &watch::Sender<Mode>) -> bool {
    let mut cut = false;
    switch.send_if_modified(|mode| {
        let (next, this) = match *mode {
            Mode::CutReply { after: 0 } => (Mode::Pass, true),
            Mode::CutReply { after } => (Mode::CutReply { after: after - 1 }, false),
            other => (other, false),
        };
        cut = this;
        std::mem::replace(mode, next) != next
    });
    cut
}
