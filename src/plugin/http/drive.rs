//! What has the plugins look at the data plane's requests and answers.

use std::net::IpAddr;
use std::time::Duration;

use super::super::PluginError;
use super::super::chain::Chain;
use super::{HttpReply, HttpRequest, HttpResponse};
use crate::error::Error;
use crate::http::{Head, Response};
use crate::model::Tags;

/// What the plugins made of a request of the data plane.
#[derive(Debug, Default)]
pub(crate) struct HttpSeen {
    /// An answer of one of them.
    pub(crate) reply: Option<Response>,
    /// Another body.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) tags: Tags,
}

impl Chain {
    /// What the plugins make of a request of the data plane.
    ///
    /// # Errors
    /// If one fails whose work must not be left out.
    pub(crate) fn http_request(&self, head: &Head, client: IpAddr, body: &[u8]) -> Result<HttpSeen, Error> {
        let mut seen = HttpSeen::default();
        for link in &self.links {
            let mut request = HttpRequest::new(head, client, seen.body.as_deref().unwrap_or(body), seen.tags.clone());
            let (result, _) = link.call(&self.events, "http_request", || {
                let reply = link.plugin.http_request(&mut request);
                let good = request.tags().check().map_err(PluginError::from);
                (reply.and_then(|reply| good.map(|()| reply)), Duration::ZERO)
            });
            let reply = match result {
                Ok(reply) => reply,
                Err(Some(error)) => return Err(error),
                Err(None) => continue,
            };
            let (body, tags) = request.into_parts();
            seen.body = body.or(seen.body);
            seen.tags = tags;
            if let Some(HttpReply(response)) = reply {
                link.figures.short_circuits.inc();
                seen.reply = Some(response);
                break;
            }
        }
        Ok(seen)
    }

    /// What the plugins make of the head of an answer of the data plane.
    pub(crate) fn http_response(&self, mut response: Response) -> Response {
        for link in self.links.iter().rev() {
            let mut head = HttpResponse::of(&response);
            let (result, _) =
                link.call(&self.events, "http_response", || (link.plugin.http_response(&mut head), Duration::ZERO));
            // An answer that has been given cannot be refused any more.
            if result.is_ok() {
                let edits = head.into_edits();
                edit(&mut response, edits);
            }
        }
        response
    }
}

impl<'a> HttpRequest<'a> {
    fn new(head: &'a Head, peer: IpAddr, body: &'a [u8], tags: Tags) -> Self {
        Self { head, peer, body, changed: None, tags }
    }

    fn into_parts(self) -> (Option<Vec<u8>>, Tags) {
        (self.changed, self.tags)
    }
}

impl<'a> HttpResponse<'a> {
    fn of(response: &'a Response) -> Self {
        Self { response, edits: Vec::new() }
    }

    fn into_edits(self) -> Vec<(String, Option<String>)> {
        self.edits
    }
}

/// Makes the changes of one hook.
fn edit(response: &mut Response, edits: Vec<(String, Option<String>)>) {
    for (name, value) in edits {
        response.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        response.headers.extend(value.map(|value| (name.into(), value)));
    }
}
