//! A name server that knows SRV records, and can fall silent.

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How soon the end is noticed.
const TICK: Duration = Duration::from_millis(50);
/// Short, so that changes are seen.
const TTL_S: u32 = 1;

#[derive(Default)]
struct State {
    records: BTreeMap<String, Vec<SRV>>,
    silent: bool,
    asked: Vec<String>,
    ended: bool,
}

/// See the module.
pub struct NameServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Knows nothing yet.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(TICK)).expect("a socket that wakes up");
        let address = socket.local_addr().expect("a bound port");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let thread = std::thread::spawn(move || serve(&socket, &shared));
        Self { address, state, thread: Some(thread) }
    }
    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    /// That name (without a dot at its end) stands for these ports of localhost, the first one preferred; for none if there are none.
    pub fn set(&self, name: &str, ports: &[u16]) {
        let target = Name::from_ascii("localhost.").expect("a name");
        let records = ports.iter().zip(1..).map(|(port, priority)| SRV::new(priority, 0, *port, target.clone()));
        let mut records: Vec<_> = records.collect();
        // (the order of an answer says nothing)
        records.reverse();
        self.state.lock().expect("the state").records.insert(name.to_owned(), records);
    }
    /// Answers nothing, or answers again.
    pub fn silence(&self, silent: bool) {
        self.state.lock().expect("the state").silent = silent;
    }
    /// The names that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().expect("the state").asked.clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.state.lock().expect("the state").ended = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buffer = [0; 1500];
    while !state.lock().expect("the state").ended {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let answer = Message::from_vec(&buffer[..length]).ok().and_then(|question| answer(&question, state));
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn answer(question: &Message, state: &Mutex<State>) -> Option<Vec<u8>> {
    let mut state = state.lock().expect("the state");
    let query = question.queries.first()?.clone();
    let name = query.name.to_ascii().trim_end_matches('.').to_owned();
    state.asked.push(name.clone());
    if state.silent {
        return None;
    }
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    let known = state.records.get(&name).filter(|records| !records.is_empty() && query.query_type == RecordType::SRV);
    match known {
        Some(records) => {
            let record = |srv: &SRV| Record::from_rdata(query.name.clone(), TTL_S, RData::SRV(srv.clone()));
            message.add_answers(records.iter().map(record));
        }
        None => message.metadata.response_code = ResponseCode::NXDomain,
    }
    message.add_query(query);
    message.to_vec().ok()
}
