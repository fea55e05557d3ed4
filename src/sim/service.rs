//! The simulated provider's routes: what a request asks for is found out here, and played by `play`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

use serde_json::json;

use super::figures::{End, Figures, Running};
use super::openai::{embeddings, model};
use super::play::{Broken, Play};
use super::reply::{Reply, error_body};
use super::request::{Asked, Shape};
use super::words::{Behaviour, SAMPLES, Verdict};
use crate::error::Error;
use crate::http::{Admission, Exchange, Finished, Head, Request, Response, Server, Service};
use crate::sync::{QuitSignal, Slot};
use crate::time::now;

const JSON: &str = "application/json";

/// The most that several choices of one answer say together, in bytes.
const MAX_SAID: usize = 16 << 20;

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Api(Shape),
    Models,
    Model(&'a str),
    Stats,
    Last,
    LastBody,
}

impl<'a> Route<'a> {
    fn find(path: &'a str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Api(Shape::Chat),
            "/v1/completions" => Self::Api(Shape::Completions),
            "/v1/embeddings" => Self::Api(Shape::Embeddings),
            "/v1/responses" => Self::Api(Shape::Responses),
            "/v1/messages" => Self::Api(Shape::Messages),
            "/v1/messages/count_tokens" => Self::Api(Shape::CountTokens),
            "/v1/models" => Self::Models,
            "/sim/stats" => Self::Stats,
            "/sim/last" => Self::Last,
            "/sim/last/body" => Self::LastBody,
            _ => Self::Model(path.strip_prefix("/v1/models/")?),
        })
    }

    fn allowed(self) -> &'static str {
        if matches!(self, Self::Api(_)) { "POST" } else { "GET, HEAD" }
    }
}

/// What all connections of one simulator share.
#[derive(Debug)]
pub(super) struct SimService {
    figures: Figures,
    next_id: AtomicU64,
    quit: QuitSignal,
    /// The server that serves this, for its figures; there once it has started.
    server: OnceLock<Weak<Slot<Server>>>,
}

impl SimService {
    pub(super) fn new(quit: QuitSignal) -> Self {
        Self { figures: Figures::new(now()), next_id: AtomicU64::new(1), quit, server: OnceLock::new() }
    }

    /// Says whose connections are counted.
    pub(super) fn served_by(&self, server: Weak<Slot<Server>>) {
        // It is called once; a second server would be none of ours.
        let _ = self.server.set(server);
    }

    pub(super) fn stats(&self) -> serde_json::Value {
        let server = self.server.get().and_then(Weak::upgrade);
        let stats = server.and_then(|server| server.peek(Server::stats));
        self.figures.stats(stats.map_or((0, 0), |stats| (stats.accepted_total, stats.open)))
    }

    fn call(&self, shape: Shape, request: &Request, exchange: Exchange) -> Finished {
        let running = self.figures.arrive(&request.head, &request.body, request.arrived);
        let refuse = |running: Running<'_>, exchange: Exchange, status, message: &str, param| {
            running.end(End::Failed);
            exchange.respond(error(Some(shape), status, message, param))
        };
        let asked = match Asked::parse(&request.body, shape) {
            Ok(asked) => asked,
            Err((field, message)) => return refuse(running, exchange, 400, &message, field),
        };
        match Behaviour::parse(&asked.model) {
            Ok(behaviour) => self.play(shape, &asked, &behaviour, request, running, exchange),
            Err(unknown) => refuse(running, exchange, 404, &unknown.to_string(), Some("model")),
        }
    }

    fn play<'a>(
        &'a self,
        shape: Shape,
        asked: &'a Asked<'_>,
        behaviour: &'a Behaviour,
        request: &Request,
        mut running: Running<'a>,
        exchange: Exchange,
    ) -> Finished {
        let past = running.call(&asked.model);
        let mut play = Play::new(running, behaviour, &self.quit, exchange, shape);
        if let Err(broken) = play.be_slow() {
            return play.reset(broken);
        }
        match behaviour.judge(past, &request.body) {
            Verdict::Hang => return play.hang(),
            Verdict::Reset => return play.reset(Broken::Cut),
            Verdict::Fail(failure) => return play.fail(failure),
            Verdict::ErrorIn200 => return play.fail_inside_200(asked.streamed()),
            Verdict::Panic => play.mark(),
            Verdict::Answer => {}
        }
        match shape {
            Shape::Embeddings => return play.whole(embeddings(asked), 1),
            Shape::CountTokens => {
                return play.whole(json!({"input_tokens": asked.prompt_tokens()}).to_string().into_bytes(), 1);
            }
            _ => {}
        }
        let said = match asked.said(behaviour.say) {
            Ok(said) => said,
            Err((field, message)) => return play.refuse(error(Some(shape), 400, &message, field)),
        };
        let choices = if matches!(shape, Shape::Messages | Shape::Responses) { 1 } else { asked.choices() };
        if choices > 1 && said.len().saturating_mul(choices as usize) > MAX_SAID {
            return play.refuse(error(Some(shape), 400, "so many choices of this length are too much", Some("n")));
        }
        let reply = Reply {
            shape,
            number: self.next_id.fetch_add(1, Ordering::Relaxed),
            model: &asked.model,
            said,
            prompt_tokens: asked.prompt_tokens(),
            choices,
            include_usage: asked.include_usage(),
            no_done: behaviour.no_done,
        };
        if asked.streamed() { play.stream(&reply) } else { play.whole(reply.body(), reply.said.count()) }
    }

    fn look(&self, route: Route<'_>) -> Response {
        let value = match route {
            Route::Models => json!({"object": "list", "data": SAMPLES.map(model)}),
            Route::Model(name) => match Behaviour::parse(name) {
                Ok(_) => model(name),
                Err(unknown) => return error(None, 404, &unknown.to_string(), Some("model")),
            },
            Route::Stats => self.stats(),
            Route::LastBody => return Response::new(200).body(self.figures.last_body(), "application/octet-stream"),
            Route::Last | Route::Api(_) => self.figures.last(),
        };
        Response::new(200).body(value.to_string(), JSON)
    }
}

impl Service for SimService {
    fn admit(&self, head: &Head, _peer: SocketAddr) -> Result<Admission, Response> {
        let Some(route) = Route::find(head.path()) else {
            let message = format!("the simulated provider has no route {}", head.path());
            return Err(error(None, 404, &message, None));
        };
        if !route.allowed().split(", ").any(|method| method == head.method()) {
            let message = format!("{} takes {}", head.path(), route.allowed());
            return Err(error(None, 405, &message, None).header("allow", route.allowed()));
        }
        Ok(Admission::default())
    }

    fn serve(&self, request: Request, exchange: Exchange) -> Finished {
        match Route::find(request.head.path()) {
            Some(Route::Api(shape)) => self.call(shape, &request, exchange),
            Some(route) => exchange.respond(self.look(route)),
            // It was not admitted, so it does not come here.
            None => exchange.respond(error(None, 404, "no such route", None)),
        }
    }

    fn refusal(
        &self,
        _head: Option<&Head>,
        status: u16,
        error: &Error,
        _hold: Option<Box<dyn std::any::Any + Send>>,
    ) -> Response {
        self::error(None, status, error.message(), error.param())
    }
}

fn error(shape: Option<Shape>, status: u16, message: &str, param: Option<&str>) -> Response {
    Response::new(status).body(error_body(shape, status, message, param), JSON)
}
