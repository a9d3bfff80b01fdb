//! Events over a WebSocket: each is one text message. What the client says is not looked at, but for its pings and its
//! farewell.

use super::follower::{Follower, Next, missed_text};
use crate::answer::Answer;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{Closed, Message, MessageStream, Session};

/// A client has nothing to say that is longer.
const FRAME_BYTES_MAX: usize = 1024;

/// Answers the handshake, and sends events until the client goes or the node stops.
pub fn serve(request: &HttpRequest, payload: web::Payload, follower: Follower) -> HttpResponse {
    match actix_ws::handle(request, payload) {
        Ok((response, session, messages)) => {
            actix_web::rt::spawn(follow(session, messages.max_frame_size(FRAME_BYTES_MAX), follower));
            response
        }
        Err(e) => {
            let why = format!("this is no handshake of a WebSocket: {e}");
            Answer::error(StatusCode::BAD_REQUEST, &why).respond(request)
        }
    }
}

async fn follow(mut session: Session, mut messages: MessageStream, mut follower: Follower) {
    loop {
        let sent = tokio::select! {
            message = messages.recv() => match message {
                Some(Ok(Message::Ping(bytes))) => session.pong(&bytes).await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => Ok(()),
            },
            next = follower.next() => match next {
                Next::End => break,
                next => tell(&mut session, next).await,
            },
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = session.close(None).await;
}

async fn tell(session: &mut Session, next: Next) -> Result<(), Closed> {
    match next {
        Next::Events(events) => {
            for event in events {
                session.text(event.text.clone()).await?;
            }
            Ok(())
        }
        Next::Missed { count, reset } => session.text(missed_text(count, reset)).await,
        Next::Idle => session.ping(b"").await,
        Next::End => Ok(()),
    }
}
