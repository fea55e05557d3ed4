//! `tiny_http`, behind the guard, on a private Unix socket: the only file that names it.
//!
//! **Protocol.** One connection carries one request, which the guard has completed and bounded, and says
//! `Connection: close`. A thread of ours waits for {a request, quit} and answers it by the pages; what takes seconds is answered
//! on a thread of its own.
//!
//! **Shutdown.** The thread looks for its quit signal between requests, four times a second; the socket's folder is removed
//! when the backend drops.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::pages::{self, Page, Pages};
use crate::gateway::StartError;
use crate::metrics::{CountGuard, Gauge};
use crate::sync::{Quit, QuitSignal, Role, State, Thread, Threads, threads};
use crate::time::Deadline;

/// How long the thread waits for a request before it looks for its quit signal.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Threads that answer: one that is busy with a fresh snapshot must not keep a probe waiting.
const ANSWERERS: usize = 2;

/// How many may wait for something slow at a time, each with a thread of its own.
const MOST_SLOW: u64 = 4;

/// The pages' server. Field order is drop order: quit before the handles, the folder last.
pub(super) struct Backend {
    quit: Quit,
    threads: Vec<Thread>,
    folder: Folder,
}

/// A folder that only this user may look into, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let name = format!("sluicegate-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            log::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}

impl Backend {
    pub(super) fn start(registry: &Threads, pages: Arc<Pages>) -> Result<Self, StartError> {
        let folder = Folder::new().map_err(StartError::Listen)?;
        let listen = |error: Box<dyn std::error::Error + Send + Sync>| StartError::Listen(std::io::Error::other(error));
        let server = Arc::new(tiny_http::Server::http_unix(&folder.socket()).map_err(listen)?);
        let quit = Quit::new();
        let mut answerers = Vec::with_capacity(ANSWERERS);
        let slow = Arc::<Gauge>::default();
        for number in 1..=ANSWERERS {
            let (server, pages, watch) = (Arc::clone(&server), Arc::clone(&pages), quit.watch());
            let (own, slow) = (registry.clone(), Arc::clone(&slow));
            let name = format!("admin-pages-{number}");
            answerers.push(registry.service(Role::Admin, &name, move || run(&server, &own, &pages, &slow, &watch))?);
        }
        Ok(Self { quit, threads: answerers, folder })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.socket()
    }

    pub(super) fn shutdown(mut self, deadline: Deadline) -> Vec<String> {
        self.quit.signal();
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().filter_map(|thread| thread.join(deadline).err()).map(|t| t.name().to_owned()).collect()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: &Path = &self.folder.0;
        f.debug_tuple("Backend").field(&path).finish()
    }
}

fn run(server: &tiny_http::Server, registry: &Threads, pages: &Arc<Pages>, slow: &Arc<Gauge>, quit: &QuitSignal) {
    while !quit.given() {
        let received = {
            let _resting = threads::rest(State::WaitingChannel, LOOK_EVERY);
            server.recv_timeout(LOOK_EVERY)
        };
        match received {
            Ok(None) => {}
            Ok(Some(request)) => {
                let _round = threads::round(threads::ROUND);
                match is_slow(&request).then(|| slow.enter_below(MOST_SLOW)) {
                    None => answer(request, pages),
                    Some(None) => refuse(request, "too many are waiting for a reload already; come again later"),
                    Some(Some(place)) => answer_aside(request, registry, pages, place),
                }
            }
            Err(error) => {
                log::error!("the admin pages' server failed: {error}");
                return;
            }
        }
    }
}

fn is_slow(request: &tiny_http::Request) -> bool {
    pages::is_slow(request.method().as_str(), request.url())
}

/// Answers on a thread of its own, so that what takes seconds keeps no probe waiting. One that finds no thread is answered 500
/// by its drop.
fn answer_aside(request: tiny_http::Request, registry: &Threads, pages: &Arc<Pages>, place: CountGuard) {
    let pages = Arc::clone(pages);
    let started = registry.spawn(Role::Admin, "admin-reload", move || {
        let _place = place;
        answer(request, &pages);
    });
    if let Err(error) = started {
        log::error!("no thread for a page that takes its time: {error}");
    }
}

fn refuse(request: tiny_http::Request, why: &str) {
    respond(request, Page::error(503, why));
}

fn answer(mut request: tiny_http::Request, pages: &Pages) {
    let mut body = Vec::new();
    // The guard has bounded it; the limit here only keeps a mistake there from growing here.
    let read = request.as_reader().take(super::MAX_BODY as u64).read_to_end(&mut body);
    let page = match read {
        Ok(_) => {
            let accept = request.headers().iter().find(|header| header.field.equiv("Accept"));
            let accept = accept.map_or("", |header| header.value.as_str());
            pages.answer(request.method().as_str(), request.url(), accept)
        }
        Err(error) => Page::error(400, &format!("the request could not be read: {error}")),
    };
    respond(request, page);
}

fn respond(request: tiny_http::Request, page: Page) {
    let mut response =
        tiny_http::Response::from_data(page.body).with_status_code(page.status).with_chunked_threshold(usize::MAX);
    if let Ok(header) = tiny_http::Header::from_bytes("content-type", page.content_type) {
        response.add_header(header);
    }
    if let Some(Ok(header)) = page.allow.map(|allow| tiny_http::Header::from_bytes("allow", allow)) {
        response.add_header(header);
    }
    if let Err(error) = request.respond(response) {
        log::debug!("an admin answer was not taken: {error}");
    }
}
