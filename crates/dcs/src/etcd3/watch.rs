//! The watch: one long answer on a connection of its own, decoded as it comes.

use super::Etcd3;
use super::client::Client;
use super::endpoint::Endpoint;
use super::etcd_error::EtcdError;
use super::wire::{Framed, WatchFrame, watch_body};
use crate::port::{Answer, Watch, WatchEnded, WatchEvent};
use futures_util::{Stream, StreamExt};
use pgherd_clock::left_until;
use pgherd_types::{Instant, Refused};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

const FRAME_LIMIT_BYTES: usize = 16 << 20;
/// How long one endpoint may take to confirm a watch.
pub(crate) const OPENING_MAX: Duration = Duration::from_secs(2);
/// A watch that brought nothing for so long has its member asked for a sign of life, which may take so long.
pub(crate) const SILENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));
pub(crate) type Chunks = Pin<Box<dyn Stream<Item = Result<Vec<u8>, String>>>>;

/// Asks the member of a watch, on another connection, whether it is alive: a frozen one keeps the watch open.
pub(crate) type SignOfLife = Box<dyn Fn() -> Sign>;
pub(crate) type Sign = Pin<Box<dyn Future<Output = Result<(), String>>>>;

struct EtcdWatch {
    sign_of_life: SignOfLife,
    chunks: Chunks,
    lines: Lines,
    frames: VecDeque<Framed<WatchFrame>>,
    created_at: i64,
}

impl Watch for EtcdWatch {
    fn created_at(&self) -> i64 {
        self.created_at
    }
    fn next(&mut self) -> Answer<'_, Result<WatchEvent, WatchEnded>> {
        Box::pin(async move {
            loop {
                let frame = self.frame().await?;
                if !frame.events.is_empty() {
                    return Ok(WatchEvent { revision: frame.header.revision });
                }
            }
        })
    }
}

impl EtcdWatch {
    fn new(chunks: impl Stream<Item = Result<Vec<u8>, String>> + 'static, sign_of_life: SignOfLife) -> Self {
        // asked once more after its end, the body of an answer panics
        let chunks = Box::pin(chunks.fuse());
        Self { sign_of_life, chunks, lines: Lines::default(), frames: VecDeque::new(), created_at: 0 }
    }

    /// The next frame that does not end the watch.
    async fn frame(&mut self) -> Result<WatchFrame, WatchEnded> {
        loop {
            match self.frames.pop_front() {
                Some(Framed { error: Some(error), .. }) => {
                    return Err(WatchEnded::Canceled(EtcdError::from_frame(&error).message));
                }
                Some(Framed { result: Some(frame), .. }) if frame.canceled => return Err(ended(frame)),
                Some(Framed { result: Some(frame), .. }) => return Ok(frame),
                Some(Framed { .. }) => {}
                None => self.read_chunk().await?,
            }
        }
    }

    async fn read_chunk(&mut self) -> Result<(), WatchEnded> {
        let chunk = loop {
            match tokio::time::timeout(SILENCE.0, self.chunks.next()).await {
                Ok(chunk) => break chunk,
                Err(_) => (self.sign_of_life)().await.map_err(WatchEnded::Broken)?,
            }
        };
        let chunk = match chunk {
            Some(Ok(chunk)) => chunk,
            Some(Err(why)) => return Err(WatchEnded::Broken(format!("the watch connection broke: {why}"))),
            None => return self.last_words(),
        };
        for line in self.lines.feed(&chunk)? {
            self.frames.extend(frames(&line)?);
        }
        Ok(())
    }

    /// An error at the end of a stream comes without a line end.
    fn last_words(&mut self) -> Result<(), WatchEnded> {
        let rest = std::mem::take(&mut self.lines.rest);
        self.frames.extend(frames(&rest)?);
        match self.frames.is_empty() {
            true => Err(WatchEnded::Broken("etcd closed the watch connection".into())),
            false => Ok(()),
        }
    }
}

/// The server leaves the connection open after it canceled a watch.
fn ended(frame: WatchFrame) -> WatchEnded {
    match frame.compact_revision {
        0 => WatchEnded::Canceled(frame.cancel_reason),
        oldest => WatchEnded::Compacted { oldest },
    }
}

/// All frames of one line (normally one).
fn frames(line: &[u8]) -> Result<Vec<Framed<WatchFrame>>, WatchEnded> {
    serde_json::Deserializer::from_slice(line)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|e| WatchEnded::Broken(format!("etcd's watch answer makes no sense: {e}")))
}

/// Cuts a stream of bytes into lines, however they are spread over chunks.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, chunk: &[u8]) -> Result<Vec<Vec<u8>>, WatchEnded> {
        let mut lines = Vec::new();
        let mut parts = chunk.split(|b| *b == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.rest.len() + part.len() > FRAME_LIMIT_BYTES {
                return Err(WatchEnded::Broken(format!("a watch event is larger than {FRAME_LIMIT_BYTES} bytes")));
            }
            self.rest.extend_from_slice(part);
            if parts.peek().is_some() {
                lines.push(std::mem::take(&mut self.rest));
            }
        }
        Ok(lines)
    }
}

impl Client {
    /// Asks the endpoints one after the other; each gets its share of the time.
    pub async fn first_watch<W>(
        &self,
        open: impl AsyncFn(&Rc<Endpoint>) -> Result<W, WatchEnded>,
        deadline: Instant,
    ) -> Result<W, WatchEnded> {
        self.ready(deadline).await.map_err(WatchEnded::Broken)?;
        let endpoints = self.endpoints.order(pgherd_clock::boottime());
        let mut ended = WatchEnded::Broken("no time was left to open a watch".into());
        for (done, endpoint) in endpoints.iter().enumerate() {
            let share = left_until(deadline) / u32::try_from(endpoints.len() - done).unwrap_or(u32::MAX);
            let share = share.min(OPENING_MAX);
            ended = match tokio::time::timeout(share, open(endpoint)).await {
                Ok(Ok(watch)) => return Ok(watch),
                Ok(Err(WatchEnded::Broken(why))) => WatchEnded::Broken(format!("{endpoint}: {why}")),
                Ok(Err(other)) => return Err(other),
                Err(_) => WatchEnded::Broken(format!("{endpoint}: no watch within {share:?}")),
            };
        }
        Err(ended)
    }
}

impl Etcd3 {
    pub(super) async fn open_watch(&self, after: Option<i64>, deadline: Instant) -> Result<Box<dyn Watch>, WatchEnded> {
        let watch = self.client.first_watch(async |at| self.watch_at(at, after).await, deadline).await?;
        Ok(Box::new(watch))
    }

    async fn watch_at(&self, endpoint: &Rc<Endpoint>, after: Option<i64>) -> Result<EtcdWatch, WatchEnded> {
        let start = after.map(|revision| revision + 1);
        let body = watch_body(self.layout.prefix(), &self.layout.range_end(), start);
        let request = self.client.stream_request(endpoint, "/watch").await.map_err(|f| match f.refused() {
            Refused::Unreachable(why) | Refused::Denied(why) => WatchEnded::Broken(why),
            other => WatchEnded::Broken(format!("{other:?}")),
        })?;
        // With this header a member without a leader ends the watch instead of staying silent for ever.
        let request = request.insert_header(("Grpc-Metadata-hasleader", "true"));
        let response = request.send_body(body).await.map_err(|e| WatchEnded::Broken(e.to_string()))?;
        let status = response.status();
        let chunks = response.map(|chunk| chunk.map(|c| c.to_vec()).map_err(|e| e.to_string()));
        let mut watch = EtcdWatch::new(chunks, self.client.sign_of_life(endpoint, SILENCE.1));
        if !status.is_success() {
            return Err(WatchEnded::Broken(watch.refusal(status.as_u16()).await));
        }
        let created = watch.created().await.inspect_err(|ended| self.client.watch_ended(ended))?;
        match after {
            Some(seen) if created < seen => Err(WatchEnded::WentBack { revision: created }),
            _ => Ok(watch),
        }
    }
}

impl EtcdWatch {
    async fn created(&mut self) -> Result<i64, WatchEnded> {
        let frame = self.frame().await?;
        if !frame.created {
            return Err(WatchEnded::Broken("etcd did not confirm the watch".into()));
        }
        self.created_at = frame.header.revision;
        Ok(self.created_at)
    }
    /// The message of a watch that was not even begun.
    async fn refusal(&mut self, status: u16) -> String {
        let body = tokio::time::timeout(Duration::from_secs(1), self.chunks.next()).await;
        match body {
            Ok(Some(Ok(body))) => match EtcdError::parse(&body) {
                Some(e) => e.message,
                None => format!("HTTP status {status}"),
            },
            _ => format!("HTTP status {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    /// Its answer is one that must not be asked again after its end.
    fn watch(chunks: &[&str]) -> EtcdWatch {
        let chunks: Vec<Result<Vec<u8>, String>> = chunks.iter().map(|c| Ok(c.as_bytes().to_vec())).collect();
        let (mut chunks, mut over) = (chunks.into_iter(), false);
        let chunks = futures_util::stream::poll_fn(move |_| {
            assert!(!over, "asked after its end");
            let next = chunks.next();
            over = next.is_none();
            Poll::Ready(next)
        });
        EtcdWatch::new(chunks, Box::new(|| -> Sign { Box::pin(std::future::ready(Ok(()))) }))
    }

    const CREATED: &str = "{\"result\":{\"header\":{\"revision\":\"4\"},\"created\":true}}\n";
    const EVENT: &str = "{\"result\":{\"header\":{\"revision\":\"5\"},\"events\":[{\"kv\":{\"key\":\"YQ==\"}}]}}\n";

    #[actix_rt::test]
    async fn frames_may_be_cut_anywhere() {
        let text = format!("{CREATED}{EVENT}{EVENT}");
        for cut in 0..text.len() {
            let mut watch = watch(&[&text[..cut], &text[cut..]]);
            assert_eq!(watch.created().await, Ok(4));
            for _ in 0..2 {
                assert_eq!(watch.next().await, Ok(WatchEvent { revision: 5 }), "cut at {cut}");
            }
            assert!(matches!(watch.next().await, Err(WatchEnded::Broken(_))));
        }
        let mut bytewise = watch(&text.split("").collect::<Vec<_>>());
        assert_eq!(bytewise.created().await, Ok(4));
        assert_eq!(bytewise.next().await, Ok(WatchEvent { revision: 5 }));
    }

    #[actix_rt::test]
    async fn every_end_has_its_name() {
        let canceled = WatchEnded::Canceled("no leader".into());
        for (frame, ended) in [
            ("{\"result\":{\"canceled\":true,\"compact_revision\":\"20\"}}\n", WatchEnded::Compacted { oldest: 20 }),
            ("{\"result\":{\"canceled\":true,\"cancel_reason\":\"no leader\"}}\n", canceled.clone()),
            ("{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"no leader\"}}", canceled.clone()),
            ("{\"error\":{\"code\":14,\"message\":\"no leader\"}}", canceled),
        ] {
            let mut watch = watch(&[CREATED, frame]);
            assert_eq!(watch.created().await, Ok(4));
            assert_eq!(watch.next().await, Err(ended), "{frame}");
        }
        let both =
            "{\"result\":{\"created\":true,\"canceled\":true,\"watch_id\":\"-1\",\"cancel_reason\":\"denied\"}}\n";
        assert_eq!(watch(&[both]).created().await, Err(WatchEnded::Canceled("denied".into())));
        assert!(matches!(watch(&["<html>\n"]).created().await, Err(WatchEnded::Broken(_))));
        for nothing in ["{}", "{}\n", "", " "] {
            assert!(matches!(watch(&[nothing]).created().await, Err(WatchEnded::Broken(_))), "{nothing:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; 1 << 20];
        assert!((0..16).all(|_| lines.feed(&chunk).is_ok()));
        assert!(lines.feed(&chunk).is_err());
    }
}
