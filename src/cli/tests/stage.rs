//! A stage for commands: a real etcd with a cluster's keys, members whose REST APIs answer as told, and the program's three
//! streams. Everything ends with the stage.

use crate::cli::client::{self, Call};
use crate::cli::console::Console;
use crate::cli::session::CalledAs;
use crate::cli::{Arguments, Command};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use clap::Parser;
use pgherd_testkit::etcd::Etcd;
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::keys::Keys;
use pgherd_testkit::postgres::TestDir;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// Called `(pgherd, patronictl)`, a refusal exits with these codes.
pub const REFUSED: (u8, u8) = (1, 0);
pub const DONE: (u8, u8) = (0, 0);
pub const STOPPED: (u8, u8) = (1, 1);

type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;
type Requests = Arc<Mutex<Vec<String>>>;

/// A member's REST API.
pub struct Member {
    port: u16,
    answers: Answers,
    requests: Requests,
    server: actix_web::dev::ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn start() -> Self {
        let (answers, requests) = (Answers::default(), Requests::default());
        let state = (answers.clone(), requests.clone());
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let app = move || App::new().app_data(web::Data::new(state.clone())).default_service(web::to(answer));
                let server = HttpServer::new(app).workers(1).disable_signals().bind("127.0.0.1:0").expect("bind");
                let port = server.addrs()[0].port();
                let server = server.run();
                tell.send((port, server.handle())).expect("the test waits");
                server.await.expect("serve");
            });
        });
        let (port, server) = told.recv().expect("a server");
        Self { port, answers, requests, server, thread: Some(thread) }
    }

    /// From now on `what` (such as `POST /restart`) is answered so.
    pub fn answers(&self, what: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(what.to_owned(), (status, body.to_owned()));
    }

    /// What was asked since the last call, as `POST /restart {}`.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // the command is on its way when the call returns
        drop(self.server.stop(false));
        let _ = self.thread.take().expect("a thread").join();
    }
}

async fn answer(request: HttpRequest, body: web::Bytes, state: web::Data<(Answers, Requests)>) -> HttpResponse {
    let what = format!("{} {}", request.method(), request.path());
    let login = request.headers().get("authorization").map(|v| format!(" {}", v.to_str().unwrap_or("?")));
    let body = if body.is_empty() { String::new() } else { format!(" {}", String::from_utf8_lossy(&body)) };
    state.1.lock().unwrap().push(format!("{what}{body}{}", login.unwrap_or_default()));
    let (status, body) = state.0.lock().unwrap().get(&what).cloned().unwrap_or((200, "ok".to_owned()));
    HttpResponse::build(actix_web::http::StatusCode::from_u16(status).expect("a status")).body(body)
}

/// Text that can be read while somebody writes it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// See the module. `a` leads, `b` and whoever follows replicate from it.
pub struct Stage {
    pub members: BTreeMap<String, Member>,
    pub keys: Keys,
    pub etcd: Etcd,
    pub directory: TestDir,
    pub variables: Vec<(String, String)>,
}

impl Stage {
    /// A cluster `test` of these members; without any there are no keys at all.
    pub fn new(names: &[&str]) -> Self {
        let (etcd, directory) = (Etcd::start(), TestDir::new());
        let settings =
            format!("scope: test\nrestapi: {{auth: 'r:s'}}\netcd3: {{hosts: '127.0.0.1:{}'}}\n", etcd.port());
        std::fs::write(directory.path().join("c.yml"), settings).expect("write settings");
        let keys = Keys::new(etcd.port(), "/service/test/");
        let members = names.iter().map(|name| ((*name).to_owned(), Member::start())).collect();
        let stage = Self { members, keys, etcd, directory, variables: Vec::new() };
        if let Some(leader) = names.first() {
            stage.keys.put("leader", leader.as_bytes(), 0);
            stage.put("initialize", json!(7_277_694_203_142_172_922_u64));
            stage.put(
                "config",
                json!({"ttl": 30, "loop_wait": 1, "postgresql": {"parameters": {"max_connections": 50}}}),
            );
        }
        for (place, name) in names.iter().enumerate() {
            stage.member(name, json!({"role": if place == 0 { "primary" } else { "replica" }}));
        }
        stage
    }

    /// Writes a key.
    pub fn put(&self, key: &str, value: Value) {
        self.keys.put(key, value.to_string().as_bytes(), 0);
    }

    /// Writes a member's key with these fields beside those that every one has.
    pub fn member(&self, name: &str, more: Value) {
        let port = self.members.get(name).map_or(1, |member| member.port);
        let at = 5432 + self.members.keys().position(|other| other == name).unwrap_or(0);
        let mut doc = json!({"conn_url": format!("postgres://127.0.0.1:{at}/postgres"), "state": "running", "timeline": 1,
            "api_url": format!("http://127.0.0.1:{port}/patroni"), "version": "4.1.4"});
        doc.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.put(&format!("members/{name}"), doc);
    }

    /// The settings.
    pub fn settings(&self) -> PathBuf {
        self.directory.path().join("c.yml")
    }

    /// Runs a command called by that name, with the settings.
    pub fn run_as(&self, name: &str, arguments: &[&str], input: &str) -> Ran {
        let settings = self.settings();
        let arguments: Vec<_> =
            ["-c", settings.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
        self.run_bare(name, &arguments, input, |_| false)
    }

    /// The same without the settings; Ctrl-C comes when the output is so.
    pub fn run_bare(&self, name: &str, arguments: &[&str], input: &str, enough: fn(&str) -> bool) -> Ran {
        let (out, err) = (Shared::default(), Shared::default());
        let seen = out.clone();
        let interrupted = async move {
            eventually(PATIENCE, "the command ends", async || enough(&seen.text()).then_some(())).await;
        };
        let code = match Arguments::try_parse_from([name].iter().chain(arguments)) {
            Ok(Arguments { connection, command: Command::Client(command) }) => {
                let input = Cursor::new(input.as_bytes().to_vec());
                let console = Console::new(input, out.clone(), err.clone(), false);
                let called_as = CalledAs::of(Some(OsStr::new(name)));
                let variables = self.variables.clone();
                client::run(
                    &command,
                    Call { called_as, connection: &connection, variables, console: &console },
                    interrupted,
                )
            }
            Ok(_) => panic!("{arguments:?} is no command over a cluster"),
            Err(e) => {
                let _ = write!(err.clone(), "{e}");
                e.exit_code().try_into().unwrap()
            }
        };
        Ran { code, out: out.text(), err: err.text() }
    }

    /// Runs a command by both names: the exit codes, and the output of the second, which must be the first's too.
    pub fn run(&self, arguments: &[&str], input: &str) -> ((u8, u8), String, String) {
        let [pgherd, patronictl] = ["/usr/bin/pgherd", "patronictl"].map(|name| self.run_as(name, arguments, input));
        assert_eq!(without_stamps(&pgherd.out), without_stamps(&patronictl.out), "{arguments:?}");
        assert_eq!(pgherd.err, patronictl.err, "{arguments:?}");
        ((pgherd.code, patronictl.code), without_stamps(&patronictl.out), patronictl.err)
    }
}

/// Without times in front of messages, and without tables.
pub fn without_stamps(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with(['|', '+']));
    lines.map(without_stamp).collect::<Vec<_>>().join("\n")
}

/// `2026-11-21 21:10:12.50136 `, wherever it stands: answers to prompts are not echoed.
fn without_stamp(line: &str) -> String {
    let pattern = "0000-00-00 00:00:00.00000 ";
    let fits =
        |text: &str| text.chars().zip(pattern.chars()).all(|(c, p)| if p == '0' { c.is_ascii_digit() } else { c == p });
    let at = line.char_indices().map(|(at, _)| at).find(|at| line.len() - at >= pattern.len() && fits(&line[*at..]));
    at.map_or_else(|| line.to_owned(), |at| format!("{}{}", &line[..at], &line[at + pattern.len()..]))
}
