//! Server-sent events as a client reads them.

use super::events::Followed;
use super::rest::NoAnswer;
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use std::time::Duration;

/// A member says something at least every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// No event is longer.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Hands every event on, until the stream ends or does not work any more.
pub async fn read<B: AsRef<[u8]>, E: std::fmt::Display>(
    mut chunks: impl Stream<Item = Result<B, E>> + Unpin,
    mut on_event: impl FnMut(&Value) -> Result<(), super::console::Stop>,
) -> Result<(), Followed> {
    let lost = |why: String| Followed::Lost(NoAnswer::Unknown(why));
    let mut frames = Frames::default();
    loop {
        let chunk = match tokio::time::timeout(SILENCE_MAX, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(e))) => return Err(lost(format!("the stream broke off: {e}"))),
            Ok(None) => return Ok(()),
            Err(_) => return Err(lost(format!("nothing was heard for {} s", SILENCE_MAX.as_secs()))),
        };
        for event in frames.push(chunk.as_ref()).map_err(lost)? {
            on_event(&event).map_err(Followed::Stop)?;
        }
    }
}

/// What has not ended yet.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    /// The documents of all frames that end with these bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Value>, String> {
        self.0.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(end) = self.0.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = self.0.drain(..end + 2).collect();
            let frame = String::from_utf8_lossy(&frame);
            let data = frame.lines().find_map(|line| line.strip_prefix("data: "));
            found.extend(data.and_then(|data| serde_json::from_str(data).ok()));
        }
        match self.0.len() {
            len if len > FRAME_BYTES_MAX => Err(format!("an event is longer than {FRAME_BYTES_MAX} bytes")),
            _ => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_come_in_any_pieces() {
        let text = ": hello\n\nid: 1.1\nevent: pgherd.x\ndata: {\"n\":1}\n\nid: 1.2\ndata: {\"n\":2}\n\ndata: {\"n";
        for size in [1, 7, 200] {
            let mut frames = Frames::default();
            let found: Vec<Value> =
                text.as_bytes().chunks(size).flat_map(|piece| frames.push(piece).unwrap()).collect();
            assert_eq!(found, [json!({"n": 1}), json!({"n": 2})], "{size}");
        }
        assert!(Frames::default().push(&vec![b'x'; FRAME_BYTES_MAX + 1]).is_err());
    }

    #[actix_rt::test]
    async fn a_stream_ends_well_or_is_lost() {
        let of = |chunks: Vec<Result<&'static str, &'static str>>| futures_util::stream::iter(chunks);
        let mut seen = 0;
        let whole = of(vec![Ok("data: {}\n\ndata: {}\n"), Ok("\n")]);
        assert!(
            read(whole, |_| {
                seen += 1;
                Ok(())
            })
            .await
            .is_ok()
        );
        assert_eq!(seen, 2);
        let broken = read(of(vec![Err("reset")]), |_| Ok(())).await;
        assert!(matches!(broken, Err(Followed::Lost(why)) if why.text().contains("reset")));
        let stopped = read(of(vec![Ok("data: {}\n\n")]), |_| Err(super::super::console::Stop::Gone)).await;
        assert!(matches!(stopped, Err(Followed::Stop(super::super::console::Stop::Gone))));
    }
}
