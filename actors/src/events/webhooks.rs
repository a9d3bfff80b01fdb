//! Events for programs elsewhere: each is posted to the user's URLs, in order, until it was taken or there is no more sense in
//! trying. It runs on a thread that decides nothing, and follows the events as every reader does: it holds nobody up, and
//! when a receiver is away for too long it passes over what is not kept any more and says so in the log.

use super::position::Position;
use hmac::{Hmac, KeyInit, Mac};
use pgherd_protocol::events::{Event, EventFeed, Events, Kinds};
use pgherd_tls::{ClientConfig, ClientFiles, TlsError};
use sha2::Sha256;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// So long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts: 1, 2, 4 … seconds, no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// So often an event is offered: for about a quarter of an hour.
const TRIES_MAX: u32 = 20;
/// So many events are taken at a time.
const BATCH: usize = 64;
/// Holds the signature of the body.
const SIGNATURE: &str = "X-Pgherd-Signature";

/// Where events go.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `http://host:port/path` or `https://…`.
    pub url: String,
    /// Which.
    pub kinds: Kinds,
    /// The key of the signature.
    pub secret: Option<String>,
    /// The authorities that the receiver's certificate must come from; by default those the machine trusts.
    pub cacert: Option<PathBuf>,
}

impl Webhook {
    /// Whom to trust; none without https. It reads files.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>, TlsError> {
        let files = ClientFiles { authorities: self.cacert.clone(), ..ClientFiles::default() };
        self.url.starts_with("https:").then(|| files.read()?.config()).transpose()
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

/// What became of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Offered {
    Taken,
    /// It is not worth while to repeat it.
    Refused(String),
    /// Perhaps it is.
    NotNow(String),
}

/// Posts what happens, until there are no more events: from where an earlier life of the agent was, for the first time from
/// now on. The position is kept in the directory.
pub async fn run(webhook: Webhook, tls: Option<Arc<ClientConfig>>, feed: EventFeed, directory: PathBuf) {
    let connector = match tls {
        Some(config) => awc::Connector::new().rustls_0_23(config),
        None => awc::Connector::new(),
    };
    let client = awc::Client::builder().connector(connector).timeout(PATIENCE).disable_redirects().finish();
    let mut newest = feed.watch();
    let last = newest.borrow_and_update().unwrap_or_default();
    let mut position = Position::read(&directory, &webhook.url).await;
    let mut seen = position.begin_after(last);
    loop {
        let ended = newest.borrow_and_update().is_none();
        let Events { events, missed, .. } = feed.after(seen, BATCH);
        if missed > 0 {
            log::warn!("webhook {}: {missed} events are not kept any more and were not told", webhook.url);
        }
        if events.is_empty() {
            if ended || newest.changed().await.is_err() {
                return;
            }
            continue;
        }
        for event in events {
            seen = event.id.seq;
            if webhook.kinds.include(&event.kind) {
                deliver(&client, &webhook, &event).await;
                position.write(seen).await;
            }
        }
        position.write(seen).await;
    }
}

async fn deliver(client: &awc::Client, webhook: &Webhook, event: &Arc<Event>) {
    let mut tries = 0;
    loop {
        tries += 1;
        let (why, again) = match offer(client, webhook, event).await {
            Offered::Taken => return,
            Offered::Refused(why) => (why, false),
            Offered::NotNow(why) => (why, tries < TRIES_MAX),
        };
        if !again {
            log::warn!("webhook {}: event {} is given up after {tries} attempts: {why}", webhook.url, event.id);
            return;
        }
        if tries == 1 {
            log::info!("webhook {}: event {} was not taken, trying again: {why}", webhook.url, event.id);
        }
        tokio::time::sleep(pause(tries)).await;
    }
}

fn pause(tries: u32) -> Duration {
    Duration::from_secs(1 << (tries - 1).min(6)).min(PAUSE_MAX)
}

async fn offer(client: &awc::Client, webhook: &Webhook, event: &Event) -> Offered {
    let mut request = client.post(&webhook.url).content_type("application/cloudevents+json");
    if let Some(secret) = &webhook.secret {
        request = request.insert_header((SIGNATURE, signature(secret, &event.text)));
    }
    match request.send_body(event.text.clone()).await {
        Ok(response) => judged(response.status().as_u16()),
        Err(e) => Offered::NotNow(e.to_string()),
    }
}

fn judged(status: u16) -> Offered {
    let what = format!("it answered {status}");
    match status {
        200..=299 => Offered::Taken,
        408 | 425 | 429 | 500..=599 => Offered::NotNow(what),
        _ => Offered::Refused(what),
    }
}

/// `sha256=` and the HMAC of the body in hexadecimal digits.
fn signature(secret: &str, body: &str) -> String {
    // a key of any length will do
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(body.as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_protocol::events::EventId;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn the_signature_is_the_known_one() {
        // RFC 4231, test case 2
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", "what do ya want for nothing?"), expected);
    }

    #[test]
    fn what_is_worth_another_attempt() {
        assert_eq!(judged(204), Offered::Taken);
        assert!([500, 503, 429, 408].into_iter().all(|status| matches!(judged(status), Offered::NotNow(_))));
        assert!([301, 400, 401, 404, 410].into_iter().all(|status| matches!(judged(status), Offered::Refused(_))));
        let seconds: Vec<u64> = (1..=8).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_secret_is_not_shown() {
        let webhook =
            Webhook { url: "http://x/".into(), kinds: Kinds::default(), secret: Some("hunter2".into()), cacert: None };
        assert!(!format!("{webhook:?}").contains("hunter2"));
    }

    /// One request of each connection, answered so.
    fn receiver(answers: &'static [u16]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let serve = move || {
            let answer = |status: &u16| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut bytes = [0; 4096];
                while !String::from_utf8_lossy(&request).ends_with('}') {
                    let count = stream.read(&mut bytes).unwrap();
                    request.extend_from_slice(&bytes[..count]);
                }
                let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(text.as_bytes()).unwrap();
                String::from_utf8_lossy(&request).into_owned()
            };
            answers.iter().map(answer).collect()
        };
        (url, std::thread::spawn(serve))
    }

    fn push(feed: &EventFeed, seq: u64, kind: &str) {
        let text = format!(r#"{{"id":"1.{seq}"}}"#);
        feed.push(Event { id: EventId { term: 1, seq }, kind: kind.into(), text });
    }

    #[actix_rt::test]
    async fn events_are_told_in_order_until_they_are_taken_or_refused() {
        let feed = EventFeed::default();
        push(&feed, 1, "pgherd.leader.lost");
        let directory = std::env::temp_dir().join(format!("pgherd-webhooks-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (url, told) = receiver(&[503, 200, 400, 200, 200]);
        let (kinds, secret) = (Kinds::read(["leader"]).unwrap(), Some("Jefe".into()));
        let webhook = Webhook { url, kinds, secret, cacert: None };
        let begin = |feed: &EventFeed| actix_rt::spawn(run(webhook.clone(), None, feed.clone(), directory.clone()));
        let end = async |feed: EventFeed, posting: actix_rt::task::JoinHandle<()>| {
            feed.close();
            tokio::time::timeout(Duration::from_secs(60), posting).await.expect("it ends with the events").unwrap();
        };
        let posting = begin(&feed);
        tokio::task::yield_now().await;
        push(&feed, 2, "pgherd.leader.elected");
        push(&feed, 3, "pgherd.role.changed");
        push(&feed, 4, "pgherd.leader.lost");
        push(&feed, 5, "pgherd.leader.elected");
        end(feed, posting).await;
        // the next life of the agent goes on where this one was
        let feed = EventFeed::default();
        (1..=6).for_each(|seq| push(&feed, seq, "pgherd.leader.lost"));
        let posting = begin(&feed);
        tokio::task::yield_now().await;
        end(feed, posting).await;
        let told = tokio::task::spawn_blocking(|| told.join().unwrap());
        let requests = tokio::time::timeout(Duration::from_secs(60), told).await.expect("all are told").unwrap();
        let bodies: Vec<_> = requests.iter().filter_map(|request| request.split("\r\n\r\n").nth(1)).collect();
        let ids = ["1.2", "1.2", "1.4", "1.5", "1.6"].map(|id| format!(r#"{{"id":"{id}"}}"#));
        assert_eq!(bodies, ids);
        let head = requests[0].to_ascii_lowercase();
        assert!(
            head.starts_with("post /hook ") && head.contains("content-type: application/cloudevents+json"),
            "{head}"
        );
        assert!(head.contains(&format!("x-pgherd-signature: {}", signature("Jefe", bodies[0]))), "{head}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
