//! Server-sent events: a frame of three lines each. JSON on one line needs no splitting.

use super::follower::{Follower, Next, missed_text};
use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{Error, HttpResponse};
use futures_util::stream::unfold;
use pgherd_protocol::events::Event;

/// A response that ends with the connection, or when the node stops.
pub fn serve(follower: Follower) -> HttpResponse {
    let frames = unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        let frames = match follower.next().await {
            Next::Events(events) => events.iter().map(|event| frame(event)).collect(),
            Next::Missed { count, reset } => {
                format!("event: pgherd.events.missed\ndata: {}\n\n", missed_text(count, reset))
            }
            Next::Idle => ": nothing new\n\n".to_owned(),
            Next::End => return None,
        };
        Some((Ok::<_, Error>(Bytes::from(frames)), Some(follower)))
    });
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(frames)
}

fn frame(event: &Event) -> String {
    format!("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.kind, event.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_protocol::events::EventId;

    #[test]
    fn a_frame_has_id_kind_and_document() {
        let event = Event { id: EventId { term: 2, seq: 7 }, kind: "pgherd.x".into(), text: r#"{"id":"2.7"}"#.into() };
        assert_eq!(frame(&event), "id: 2.7\nevent: pgherd.x\ndata: {\"id\":\"2.7\"}\n\n");
    }
}
