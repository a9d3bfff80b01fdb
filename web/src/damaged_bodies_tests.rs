//! Bodies that were good and have been damaged, and documents drawn by lot, at every endpoint that reads one: what is not what it
//! should be is refused with a reason, and nobody is asked for anything. A body that is damaged is made small before it is shown.

use super::bad_input_tests::exchange;
use super::tests::{Served, open, split};
use crate::operations::body::BODY_BYTES_MAX;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;

/// What takes a body, and one that is good.
const GOOD: &[(&str, &str)] = &[
    ("POST /switchover", r#"{"leader":"pg1","candidate":"pg2"}"#),
    ("POST /failover", r#"{"candidate":"pg2"}"#),
    ("PATCH /config", r#"{"ttl":30,"postgresql":{"parameters":{"work_mem":"4MB"},"pg_hba":["local all all trust"]}}"#),
    ("PUT /config", r#"{"ttl":30,"postgresql":{"parameters":{"work_mem":"4MB"},"use_slots":true}}"#),
    ("POST /restart", r#"{"role":"replica","restart_pending":true,"timeout":"30s","postgres_version":"16.2"}"#),
    ("POST /reinitialize", r#"{"force":true,"from_leader":false}"#),
    ("POST /failsafe", r#"{"name":"pg1","conn_url":"postgres://x","api_url":"http://y","slots":{"a":7}}"#),
];

/// What happens to a good body. Every one of them makes something that means nothing.
#[derive(Clone, Debug)]
enum Damage {
    /// The rest is missing.
    Cut(prop::sample::Index),
    /// A byte that is neither of UTF-8 nor of a JSON text is put in.
    Byte(prop::sample::Index, u8),
    /// An object has its first key twice.
    KeyTwice(prop::sample::Index),
    /// Something follows.
    Tail(String),
    /// One more value, so deep.
    Deep(usize, bool),
    /// One more value, so long.
    Huge(usize),
    /// A length that is larger than what is sent.
    Short(usize),
    /// Chunks that are none.
    Chunks(String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    let byte = prop_oneof![0x80..=0xff_u8, 0..9_u8, 14..32_u8];
    prop_oneof![
        8 => index().prop_map(Damage::Cut),
        8 => (index(), byte).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        4 => index().prop_map(Damage::KeyTwice),
        4 => "[^ \t\r\n]{1,9}".prop_map(Damage::Tail),
        2 => (128..20_000_usize, any::<bool>()).prop_map(|(depth, list)| Damage::Deep(depth, list)),
        1 => (0..BODY_BYTES_MAX).prop_map(|more| Damage::Huge(BODY_BYTES_MAX + more)),
        2 => (1..100_000_usize).prop_map(Damage::Short),
        2 => "[g-z]{1,4}\r\n".prop_map(Damage::Chunks),
    ]
}

/// Lines of a head, and the bytes behind it.
fn damaged(good: &str, damage: &Damage) -> (String, Vec<u8>) {
    let body = match damage {
        Damage::Cut(at) => good.as_bytes()[..1 + at.index(good.len() - 1)].to_vec(),
        Damage::Byte(at, byte) => {
            let (before, after) = good.as_bytes().split_at(at.index(good.len()));
            [before, &[*byte], after].concat()
        }
        Damage::KeyTwice(which) => key_twice(good, which).into_bytes(),
        Damage::Tail(tail) => format!("{good}{tail}").into_bytes(),
        Damage::Deep(depth, true) => more(good, &format!("{}{}", "[".repeat(*depth), "]".repeat(*depth))),
        Damage::Deep(depth, false) => more(good, &format!("{}1{}", r#"{"a":"#.repeat(*depth), "}".repeat(*depth))),
        Damage::Huge(bytes) => more(good, &format!("\"{}\"", "x".repeat(*bytes))),
        Damage::Short(by) => return (format!("Content-Length: {}", good.len() + by), good.into()),
        Damage::Chunks(nonsense) => return ("Transfer-Encoding: chunked".into(), [nonsense, good].concat().into()),
    };
    (format!("Content-Length: {}", body.len()), body)
}

/// With one more value in front of the others.
fn more(good: &str, value: &str) -> Vec<u8> {
    format!("{{\"more\":{value},{}", &good[1..]).into_bytes()
}

/// One of the objects in it, of those that have something in them, has its first key twice; in other letters.
fn key_twice(good: &str, which: &prop::sample::Index) -> String {
    let opens: Vec<usize> = good.match_indices("{\"").map(|(at, _)| at).collect();
    let (before, object) = good.split_at(opens[which.index(opens.len())]);
    let letter = object.as_bytes()[2];
    let rest = &object[3..object[2..].find('"').expect("the key ends") + 2];
    format!("{before}{{\"\\u{letter:04x}{rest}\":0,{}", &object[1..])
}

/// A server, and everything it needs to be asked again and again.
struct Play {
    system: actix_rt::SystemRunner,
    api: Served,
}

impl Play {
    fn new() -> Self {
        let system = actix_rt::System::new();
        let api = system.block_on(async { open() });
        Self { system, api }
    }

    fn ask(&self, target: &str, head: &str, body: &[u8]) -> (u16, String) {
        let head = format!("{target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n");
        split(&self.system.block_on(exchange(&self.api, &[head.as_bytes(), body].concat())))
    }

    /// The same cases every time.
    fn run<S: Strategy>(&self, cases: u32, all: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let rng = prop::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
        TestRunner::new_with_rng(config, rng).run(all, test).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(self.ask("GET /patroni", "", b"").0, 200, "it goes on");
    }
}

#[test]
fn a_damaged_body_is_refused_and_asks_nobody_for_anything() {
    let play = Play::new();
    for (target, good) in GOOD {
        play.ask(target, &format!("Content-Length: {}", good.len()), good.as_bytes());
        assert_eq!(play.api.asked().len(), 1, "{target}: as it is somebody is asked");
    }
    play.run(500, &(prop::sample::select(GOOD), damage()), |((target, good), damage)| {
        let (head, body) = damaged(good, &damage);
        let (code, reason) = play.ask(target, &head, &body);
        // a request that ends before it is complete may get no answer
        let incomplete = matches!(damage, Damage::Short(_) | Damage::Chunks(_));
        prop_assert!((400..500).contains(&code) || incomplete && code == 0, "{target}: {code} {reason}");
        prop_assert!(code == 0 || !reason.is_empty(), "{target}: {code} without a reason");
        prop_assert_eq!(play.api.asked(), Vec::<String>::new());
        Ok(())
    });
}

/// Documents of the keys that somewhere mean something.
fn document() -> impl Strategy<Value = Value> {
    const KEYS: &[&str] =
        &["leader", "candidate", "scheduled_at", "schedule", "role", "timeout", "force", "ttl", "name", "slots", "x"];
    let texts = prop_oneof![
        prop::sample::select(vec!["pg1", "replica", "2099-01-01T00:00Z", "30s", "true", "", "16.2"])
            .prop_map(str::to_owned),
        ".{0,12}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        texts.prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let entries = vec((prop::sample::select(KEYS), inner.clone()), 0..5);
        let object = entries.prop_map(|all| all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        prop_oneof![3 => object.prop_map(Value::Object), 1 => vec(inner, 0..4).prop_map(Value::Array)]
    })
}

#[test]
fn any_document_is_either_refused_or_asked_for() {
    let play = Play::new();
    play.run(700, &(prop::sample::select(GOOD), document()), |((target, _), document)| {
        let body = document.to_string();
        let (code, reason) = play.ask(target, &format!("Content-Length: {}", body.len()), body.as_bytes());
        let refused = matches!(code, 400 | 422);
        // those who are asked have their own answers
        prop_assert!(refused || [200, 202, 409, 502].contains(&code), "{code} {reason}");
        prop_assert_eq!(play.api.asked().len(), usize::from(!refused), "{}", reason);
        prop_assert!(!reason.is_empty());
        prop_assert!(document.is_object() || refused, "{code} {reason}");
        Ok(())
    });
}
