//! Names to addresses: a few threads, one look-up per name at a time, answers kept for a while.
//!
//! **Protocol.** A caller finds a fresh answer in the cache, joins the look-up under way, or starts one: it puts a flight
//! into the cache and a job into a bounded channel. A resolver thread looks the name up, stores the answer in flight and
//! cache, and drops the job, which closes the flight's channel; that wakes everyone who waits, also after a panic. Waiting
//! ends at the caller's deadline or cancel; the look-up itself cannot be interrupted and goes on for whoever comes next.
//!
//! **Invariants.** I4: names, addresses and jobs are bounded in number. I5: a waiter has a deadline.
//!
//! **Lock order.** The cache is a leaf; nothing is sent or looked up under it.
//!
//! **Shutdown.** Dropping the resolver, or [`Resolver::shutdown`], closes the quit channel of its threads. One that hangs in
//! the system's resolver ends when that gives up.
//!
//! **Panics.** A look-up that panics is a failed one; the thread goes on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use super::{TransportError, TransportErrorKind as Kind};
use crate::sync::locks::classes;
use crate::sync::{CancelToken, Leaf, Quit, QuitSignal, Role, State, Thread, Threads, threads};
use crate::time::{Deadline, now};

/// How many look-ups run at a time.
const THREADS: usize = 2;

/// How long the system's resolver may take by its own settings, usually: a few tries at a few name servers.
const LOOK_UP: Duration = Duration::from_secs(30);

/// How many look-ups may wait for a thread.
const WAITING: usize = 256;

/// How many names are remembered.
const NAMES: usize = 1024;

/// How many addresses of a name are used.
const ADDRESSES: usize = 16;

/// How long an answer is good; the system's resolver does not tell the name server's own word on it.
const KEPT: Duration = Duration::from_secs(30);

/// How long a failure is: long enough that a burst of requests asks once.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// What a look-up gave: addresses, or why there are none.
type Answer = Result<Arc<[IpAddr]>, Arc<str>>;

/// The resolver of a gateway, shared by all its providers.
pub struct Resolver {
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    quit: Leaf<Quit>,
    running: Leaf<Vec<Thread>>,
    started: AtomicBool,
    threads: Threads,
    cache: Arc<Cache>,
}

struct Cache {
    names: Leaf<HashMap<Arc<str>, Name>>,
    lookup: Box<Lookup>,
}

enum Name {
    Known { answer: Answer, until: Instant },
    Flying(Arc<Flight>),
}

struct Flight {
    answer: OnceLock<Answer>,
    landed: Receiver<Infallible>,
}

struct Job {
    name: Arc<str>,
    flight: Arc<Flight>,
    /// Its drop wakes who waits.
    _landing: Sender<Infallible>,
}

impl Resolver {
    /// A resolver that asks the operating system. Its threads start when a name is first looked up.
    #[must_use]
    pub fn start(threads: &Threads) -> Arc<Self> {
        Self::with_lookup(threads, |name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }

    /// A resolver that asks `lookup`, which may block and is called on a resolver thread.
    pub fn with_lookup(
        threads: &Threads,
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (jobs, waiting) = bounded(WAITING);
        Arc::new(Self {
            jobs,
            waiting,
            quit: Leaf::new(&classes::RESOLVER, Quit::new()),
            running: Leaf::new(&classes::RESOLVER, Vec::new()),
            started: AtomicBool::new(false),
            threads: threads.clone(),
            cache: Arc::new(Cache { names: Leaf::new(&classes::RESOLVER, HashMap::new()), lookup: Box::new(lookup) }),
        })
    }

    /// The addresses of `name`, at least one; an address or `localhost` is its own answer and needs no thread.
    ///
    /// # Errors
    /// [`Kind::Resolve`] if there are none; [`Kind::ConnectTimeout`] at the deadline; [`Kind::Cancelled`].
    pub(super) fn resolve(
        &self,
        name: &str,
        cancel: &CancelToken,
        deadline: Deadline,
    ) -> Result<Arc<[IpAddr]>, TransportError> {
        if let Some(addresses) = literal(name) {
            return Ok(addresses);
        }
        let answer = match self.cache.find(name, now()) {
            Found::Answer(answer) => Ok(answer),
            Found::Flight(flight) => self.wait(name, &flight, cancel, deadline),
            Found::Nothing(job) => {
                let flight = Arc::clone(&job.flight);
                self.begin(job)?;
                self.wait(name, &flight, cancel, deadline)
            }
        }?;
        answer.map_err(|why| TransportError::new(Kind::Resolve, format!("looking up {name}: {why}")))
    }

    /// Ends the threads; the names of those that still look something up at `deadline`.
    #[must_use]
    pub fn shutdown(&self, deadline: Deadline) -> Vec<String> {
        self.quit.lock().signal();
        let running = std::mem::take(&mut *self.running.lock());
        let stragglers = running.into_iter().filter_map(|thread| thread.join(deadline).err());
        stragglers.map(|thread| thread.name().to_owned()).collect()
    }

    fn begin(&self, job: Job) -> Result<(), TransportError> {
        let name = Arc::clone(&job.name);
        let sent = self.start_threads().and_then(|()| {
            self.jobs.try_send(job).map_err(|error| match error {
                TrySendError::Full(_) => format!("{WAITING} look-ups are waiting already"),
                TrySendError::Disconnected(_) => "the resolver has ended".to_owned(),
            })
        });
        sent.map_err(|why| {
            self.cache.names.lock().remove(&name);
            TransportError::new(Kind::Resolve, format!("looking up {name}: {why}"))
        })
    }

    fn start_threads(&self) -> Result<(), String> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let quit = self.quit.lock().watch();
        let mut last = None;
        for number in 1..=THREADS {
            let (cache, jobs, quit) = (Arc::clone(&self.cache), self.waiting.clone(), quit.clone());
            let spawned =
                self.threads.service(Role::Resolver, &format!("resolver-{number}"), move || run(&cache, &jobs, &quit));
            match spawned {
                Ok(thread) => self.running.lock().push(thread),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if self.running.lock().is_empty() => {
                self.started.store(false, Ordering::Release);
                Err(error.to_string())
            }
            _ => Ok(()),
        }
    }

    fn wait(
        &self,
        name: &str,
        flight: &Arc<Flight>,
        cancel: &CancelToken,
        deadline: Deadline,
    ) -> Result<Answer, TransportError> {
        let _state = threads::enter(State::WaitingChannel);
        select! {
            recv(flight.landed) -> _ => {}
            recv(cancel.channel()) -> _ => {}
            default(deadline.remaining()) => {}
        }
        if let Some(answer) = flight.answer.get() {
            return Ok(answer.clone());
        }
        if let Some(reason) = cancel.reason() {
            return Err(TransportError::cancelled(reason));
        }
        if deadline.passed() {
            return Err(TransportError::new(Kind::ConnectTimeout, format!("looking up {name} took too long")));
        }
        // It landed without an answer: the look-up panicked. The next caller begins anew.
        self.cache.forget(flight);
        Err(TransportError::new(Kind::Resolve, format!("looking up {name} failed in itself")))
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("started", &self.started).finish_non_exhaustive()
    }
}

enum Found {
    Answer(Answer),
    Flight(Arc<Flight>),
    /// A job to be sent; its flight is in the cache already.
    Nothing(Job),
}

impl Cache {
    fn find(&self, name: &str, now: Instant) -> Found {
        let mut names = self.names.lock();
        match names.get(name) {
            Some(Name::Known { answer, until }) if *until > now => return Found::Answer(answer.clone()),
            Some(Name::Flying(flight)) => return Found::Flight(Arc::clone(flight)),
            Some(Name::Known { .. }) | None => {}
        }
        if names.len() >= NAMES {
            make_room(&mut names, now);
        }
        let (landing, landed) = bounded(0);
        let (name, flight) = (Arc::from(name), Arc::new(Flight { answer: OnceLock::new(), landed }));
        names.insert(Arc::clone(&name), Name::Flying(Arc::clone(&flight)));
        Found::Nothing(Job { name, flight, _landing: landing })
    }

    fn forget(&self, flight: &Arc<Flight>) {
        self.names.lock().retain(|_, name| !matches!(name, Name::Flying(other) if Arc::ptr_eq(other, flight)));
    }

    fn land(&self, job: Job) {
        let answer = match (self.lookup)(&job.name) {
            Ok(addresses) if addresses.is_empty() => Err(Arc::from("it has no address")),
            Ok(addresses) => Ok(unique(addresses)),
            Err(error) => Err(Arc::from(error.to_string())),
        };
        let until = now() + if answer.is_ok() { KEPT } else { FAILURE_KEPT };
        // The cache first: who comes after the waiters have been woken finds the answer.
        if let Entry::Occupied(mut entry) = self.names.lock().entry(Arc::clone(&job.name)) {
            entry.insert(Name::Known { answer: answer.clone(), until });
        }
        let _ = job.flight.answer.set(answer);
    }
}

/// Throws away what has expired, else what expires first.
fn make_room(names: &mut HashMap<Arc<str>, Name>, now: Instant) {
    names.retain(|_, name| !matches!(name, Name::Known { until, .. } if *until <= now));
    while names.len() >= NAMES {
        let first = names.iter().filter_map(|(name, state)| match state {
            Name::Known { until, .. } => Some((*until, Arc::clone(name))),
            Name::Flying(_) => None,
        });
        let Some((_, name)) = first.min() else { return };
        names.remove(&name);
    }
}

fn unique(addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    let mut kept: Vec<IpAddr> = Vec::with_capacity(addresses.len().min(ADDRESSES));
    for address in addresses {
        if kept.len() < ADDRESSES && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept.into()
}

fn run(cache: &Cache, jobs: &Receiver<Job>, quit: &QuitSignal) {
    loop {
        let job = {
            let _resting = threads::rest(State::WaitingChannel, Duration::MAX);
            select! {
                recv(quit.channel()) -> _ => return,
                recv(jobs) -> job => job,
            }
        };
        match job {
            Ok(job) if !quit.given() => {
                let _round = threads::round(LOOK_UP);
                threads::count_job();
                cache.land(job);
            }
            _ => return,
        }
    }
}

/// The addresses of a name that needs no look-up.
pub(super) fn literal(name: &str) -> Option<Arc<[IpAddr]>> {
    if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        return Some(Arc::new([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]));
    }
    name.parse().ok().map(|address: IpAddr| Arc::from([address]))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::sync::CancelReason;

    const FUSE: Duration = Duration::from_secs(5);

    fn registry() -> Threads {
        Threads::new(8, 256 * 1024)
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([8, 8, 8, last])
    }

    fn resolve(resolver: &Resolver, name: &str) -> Result<Arc<[IpAddr]>, TransportError> {
        resolver.resolve(name, &CancelToken::new(), Deadline::after(FUSE))
    }

    #[test]
    fn addresses_and_localhost_are_their_own_answer_and_need_no_thread() {
        let threads = registry();
        let resolver = Resolver::with_lookup(&threads, |_| panic!("never asked"));
        for (name, first) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("LocalHost.", "127.0.0.1")] {
            assert_eq!(resolve(&resolver, name).expect("known")[0], first.parse::<IpAddr>().unwrap());
        }
        assert_eq!(threads.active(), 0);
    }

    #[test]
    fn a_name_asked_for_by_many_at_once_is_looked_up_once() {
        let (asked, (hold, held)) = (Arc::new(AtomicUsize::new(0)), bounded::<()>(0));
        let (counting, threads) = (Arc::clone(&asked), registry());
        let (tell, begun) = bounded(1);
        let resolver = Resolver::with_lookup(&threads, move |_| {
            counting.fetch_add(1, Ordering::SeqCst);
            tell.send(()).expect("the test listens");
            let _ = held.recv_timeout(FUSE);
            Ok(vec![address(1), address(2), address(1)])
        });
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| resolve(&resolver, "provider.example"))).collect();
            begun.recv_timeout(FUSE).expect("it is looked up");
            drop(hold);
            for one in waiting {
                let addresses = one.join().expect("no panic").expect("it has addresses");
                assert_eq!(*addresses, [address(1), address(2)], "each address once, in order");
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1, "who came later found it in the cache");
        assert_eq!(threads.active(), THREADS as u64);
        assert!(resolver.shutdown(Deadline::after(FUSE)).is_empty());
        assert_eq!(threads.active(), 0);
    }

    #[test]
    fn an_answer_is_kept_for_its_time_and_a_failure_for_a_shorter_one() {
        let resolver = Resolver::with_lookup(&registry(), |name| match name {
            "good.example" => Ok(vec![address(1)]),
            "empty.example" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        });
        for (name, kept) in [("good.example", KEPT), ("empty.example", FAILURE_KEPT), ("bad.example", FAILURE_KEPT)] {
            let (before, answer) = (now(), resolve(&resolver, name));
            assert_eq!(answer.is_ok(), name == "good.example");
            let after = now();
            assert!(matches!(resolver.cache.find(name, before + kept), Found::Answer(_)), "{name} is kept");
            assert!(matches!(resolver.cache.find(name, after + kept), Found::Nothing(_)), "{name} is asked for again");
        }
    }

    #[test]
    fn a_look_up_that_panics_is_a_failure_and_the_next_one_works() {
        let asked = AtomicUsize::new(0);
        let threads = registry();
        let resolver = Resolver::with_lookup(&threads, move |_| {
            assert!(asked.fetch_add(1, Ordering::SeqCst) > 0, "the first time");
            Ok(vec![address(1)])
        });
        assert_eq!(resolve(&resolver, "provider.example").expect_err("it panicked").kind, Kind::Resolve);
        assert!(resolve(&resolver, "provider.example").is_ok());
        assert_eq!(threads.active(), THREADS as u64, "the thread went on");
    }

    #[test]
    fn waiting_ends_by_deadline_and_by_cancel_and_a_straggler_is_named() {
        let (hold, held) = bounded::<()>(0);
        let (tell, begun) = bounded(1);
        let resolver = Resolver::with_lookup(&registry(), move |_| {
            tell.send(()).expect("the test listens");
            let _ = held.recv_timeout(FUSE);
            Ok(Vec::new())
        });
        let soon = Deadline::after(Duration::from_millis(5));
        let error = resolver.resolve("provider.example", &CancelToken::new(), soon).expect_err("it takes too long");
        assert_eq!(error.kind, Kind::ConnectTimeout);
        let cancel = CancelToken::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| resolver.resolve("provider.example", &cancel, Deadline::after(FUSE)));
            cancel.cancel();
            let error = waiting.join().expect("no panic").expect_err("it is cancelled");
            assert_eq!(error.kind, Kind::Cancelled(CancelReason::Caller));
        });
        begun.recv_timeout(FUSE).expect("it is looked up");
        let stragglers = resolver.shutdown(Deadline::after(Duration::from_millis(500)));
        assert_eq!(stragglers.len(), 1, "{stragglers:?}: the other thread was idle");
        drop(hold);
    }

    #[test]
    fn without_a_thread_a_look_up_fails_and_a_later_one_tries_again() {
        let threads = Threads::new(1, 256 * 1024);
        let (hold, held) = bounded::<()>(0);
        let other = threads.spawn(Role::Worker, "other", move || _ = held.recv_timeout(FUSE)).expect("room for one");
        let resolver = Resolver::with_lookup(&threads, |_| Ok(vec![address(1)]));
        let error = resolve(&resolver, "provider.example").expect_err("no thread");
        assert!(error.to_string().contains("threads.max"), "{error}");
        drop(hold);
        other.join(Deadline::after(FUSE)).expect("it ends");
        assert!(resolve(&resolver, "provider.example").is_ok(), "one thread of two is enough");
    }

    #[test]
    fn names_are_bounded_in_number() {
        let resolver = Resolver::with_lookup(&registry(), |_| Ok(vec![address(1)]));
        for number in 0..NAMES + 50 {
            resolve(&resolver, &format!("{number}.example")).expect("it has an address");
        }
        assert_eq!(resolver.cache.names.lock().len(), NAMES);
    }
}
