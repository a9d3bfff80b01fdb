//! One request at one endpoint: with a token where etcd wants one, under the path of its version.

use super::client::Client;
use super::endpoint::Endpoint;
use super::etcd_error::EtcdError;
use super::failure::{Failure, of_answer, of_sending, with_advice};
use super::session::Token;
use super::version::api_for;
use super::watch::{Sign, SignOfLife};
use super::wire::{TokenReply, answered};
use crate::options::EtcdLogin;
use crate::port::WatchEnded;
use std::rc::Rc;
use std::time::Duration;

pub(crate) const BODY_LIMIT_BYTES: usize = 64 << 20;

impl Client {
    pub(super) async fn attempt(&self, at: &Rc<Endpoint>, path: &str, body: &str) -> Result<Vec<u8>, Failure> {
        let settings = self.in_force.borrow().clone();
        let Some(login) = &settings.login else { return self.request(at, path, body, &None).await };
        let (token, number) = match self.session.token() {
            Some(token) => token,
            None => self.log_in(at, login, self.session.number()).await?,
        };
        let answer = match self.request(at, path, body, &token).await {
            Err(Failure::Explicit(e)) if e.is_about_login() => {
                let (token, _) = self.log_in(at, login, number).await?;
                let again = self.request(at, path, body, &token).await;
                again.map_err(|failure| match failure {
                    Failure::Explicit(e) if e.is_about_login() => {
                        Failure::unsure(format!("{at} refuses a token that it gave a moment ago: {}", e.message))
                    }
                    other => other,
                })
            }
            answer => answer,
        };
        if answer.is_ok() {
            self.session.works();
        }
        answer
    }

    /// A new token instead of that one, unless somebody else has got one meanwhile.
    async fn log_in(&self, at: &Rc<Endpoint>, login: &EtcdLogin, instead_of: u64) -> Result<(Token, u64), Failure> {
        let turn = self.session.turn(instead_of).await?;
        if turn.is_some() {
            log::debug!("logging in to etcd at {at} as {}", login.username);
            let body = serde_json::json!({"name": login.username, "password": login.password}).to_string();
            let token = match self.request(at, "/auth/authenticate", &body, &None).await {
                Ok(answer) => Some(token_of(&answer, at)?),
                Err(Failure::Explicit(e)) if e.auth_is_off() => {
                    log::info!("etcd's authentication is not enabled; etcd3.username is not needed");
                    None
                }
                Err(Failure::Explicit(e)) => {
                    let why = format!("etcd refuses the user {}: {}", login.username, e.message);
                    self.session.refused(why.clone());
                    let advice = "check etcd3.username and etcd3.password";
                    return Err(Failure::Explicit(EtcdError { message: format!("{why} ({advice})"), ..e }));
                }
                Err(failure) => return Err(failure),
            };
            self.session.logged_in(token);
        }
        self.session.token().ok_or_else(|| Failure::unsure("the user for etcd was changed meanwhile"))
    }

    async fn request(&self, at: &Rc<Endpoint>, path: &str, body: &str, token: &Token) -> Result<Vec<u8>, Failure> {
        if let Some(answer) = self.post(at, path, body, token).await? {
            return Ok(answer);
        }
        self.find_api(at).await?;
        let answer = self.post(at, path, body, token).await?;
        answer.ok_or_else(|| Failure::unsure(format!("{at}: no etcd API answers there")))
    }

    /// `None`: there is no such path.
    async fn post(&self, at: &Rc<Endpoint>, path: &str, body: &str, token: &Token) -> Result<Option<Vec<u8>>, Failure> {
        let url = format!("{at}{}{path}", self.api.get());
        let pools = self.pools.borrow().clone();
        let request = pools.http.post(&url);
        let request = match token {
            Some(token) => request.insert_header(("Authorization", &**token)),
            None => request,
        };
        let mut response = request.send_body(body.to_owned()).await.map_err(|e| of_sending(&url, &e))?;
        let status = response.status();
        let body = response.body().limit(BODY_LIMIT_BYTES).await;
        let body = body.map_err(|e| Failure::unsure(format!("{url}: the answer broke off: {e}")))?;
        if let Some(header) = answered(&body).filter(|_| status.is_success()) {
            self.note(at, &header)?;
            return Ok(Some(body.to_vec()));
        }
        match EtcdError::parse(&body) {
            Some(e) if e.is_no_answer() => Err(of_answer(&url, &e)),
            Some(e) => Err(Failure::Explicit(e)),
            None if status == 404 => Ok(None),
            None if status.is_success() => {
                Err(Failure::unsure(format!("{url}: the answer is not etcd's; does something else listen there?")))
            }
            None => Err(Failure::unsure(with_advice(format!("{url}: {status}, {}", excerpt(&body))))),
        }
    }

    /// Versions before 3.4 have the same API under another name, which those after 3.5 do not know any more.
    async fn find_api(&self, at: &Rc<Endpoint>) -> Result<(), Failure> {
        let url = format!("{at}/version");
        let pools = self.pools.borrow().clone();
        let mut response = pools.http.get(&url).send().await.map_err(|e| of_sending(&url, &e))?;
        let body = response.body().limit(BODY_LIMIT_BYTES).await.unwrap_or_default();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let cluster = document["etcdcluster"].as_str().unwrap_or("unknown");
        let api = api_for(cluster).map_err(|why| Failure::unsent(format!("{url}: {why}")))?;
        if self.api.replace(api) == api {
            return Err(Failure::unsure(format!("{url}: etcd {cluster}, but its API does not answer under {api}")));
        }
        Ok(())
    }

    /// A request whose answer is a stream, on a connection of its own.
    pub async fn stream_request(&self, at: &Rc<Endpoint>, path: &str) -> Result<awc::ClientRequest, Failure> {
        let settings = self.in_force.borrow().clone();
        let token = match (&settings.login, self.session.token()) {
            (None, _) => None,
            (Some(_), Some((token, _))) => token,
            (Some(login), None) => self.log_in(at, login, self.session.number()).await?.0,
        };
        let url = format!("{at}{}{path}", self.api.get());
        let request = self.pools.borrow().streams.post(url).force_close();
        Ok(match token {
            Some(token) => request.insert_header(("Authorization", &*token)),
            None => request,
        })
    }

    /// A watch that was refused because of its token was answered all the same; the next one needs another token. (etcd 3.5
    /// calls a lapsed token a lack of permission there.)
    pub fn watch_ended(&self, ended: &WatchEnded) {
        if let WatchEnded::Canceled(why) = ended
            && (EtcdError { code: 2, message: why.clone() }.is_about_login() || why.contains("permission denied"))
        {
            self.session.lost();
        }
    }

    /// Is the process there alive? Its answer says nothing else, and costs it nothing.
    pub fn sign_of_life(&self, at: &Rc<Endpoint>, patience: Duration) -> SignOfLife {
        let (http, url) = (self.pools.borrow().http.clone(), format!("{at}/version"));
        Box::new(move || -> Sign {
            let (request, url) = (http.get(&url), url.clone());
            Box::pin(async move {
                let alive = async { request.send().await.ok()?.body().await.ok() };
                let answer = tokio::time::timeout(patience, alive).await.ok().flatten();
                answer.map(drop).ok_or_else(|| format!("{url} gives no sign of life, and the watch on it is silent"))
            })
        })
    }
}

fn token_of(answer: &[u8], at: &Endpoint) -> Result<Rc<str>, Failure> {
    let reply: TokenReply = serde_json::from_slice(answer).unwrap_or_default();
    match reply.token.is_empty() || reply.token.contains(|c: char| c.is_control()) {
        false => Ok(reply.token.into()),
        true => Err(Failure::unsure(format!("{at} answered a login without a token"))),
    }
}

pub(crate) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
