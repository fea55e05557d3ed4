//! A gateway as a process of its own: started, asked, and looked at from outside, as an attacker's target and a host see it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use serde_json::Value;
use sluicegate::time::{Deadline, now};
use tempfile::TempDir;

use super::{Error, FUSE};

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
    pub(crate) rss_kib: u64,
}

impl Usage {
    fn most(self, other: Self) -> Self {
        Self {
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
            rss_kib: self.rss_kib.max(other.rss_kib),
        }
    }
}

/// A gateway that serves; killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    _folder: TempDir,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Gateway {
    /// Starts `program` with this configuration, and with at most so many descriptors.
    pub(crate) fn start(program: &Path, config: &Value, descriptors: Option<u32>) -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("sluicegate.json"), config.to_string())?;
        let mut command = Command::new("sh");
        let limit = descriptors.map_or(String::new(), |most| format!("ulimit -n {most} && "));
        let mut child = command
            .args(["-c", &format!("{limit}exec \"$@\""), "sh"])
            .arg(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no output to read")?;
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut gateway =
            Self { child, _stdout: BufReader::new(stdout), _folder: folder, data: nowhere, admin: nowhere };
        let (mut data, mut admin) = (None, None);
        let mut line = String::new();
        // The curl line is the banner's last.
        while !line.starts_with("curl ") {
            line.clear();
            if gateway._stdout.read_line(&mut line)? == 0 {
                return Err("the gateway did not start".into());
            }
            let address = || line.rsplit_once("http://").and_then(|(_, address)| address.trim().parse().ok());
            match line.split_once(' ') {
                Some(("data", _)) => data = address(),
                Some(("admin", _)) => admin = address(),
                _ => {}
            }
        }
        (gateway.data, gateway.admin) = data.zip(admin).ok_or("the banner has no addresses")?;
        Ok(gateway)
    }

    /// What it holds now.
    pub(crate) fn usage(&self) -> Result<Usage, Error> {
        let folder = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{folder}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).ok_or("the process is gone")
        };
        let descriptors = std::fs::read_dir(format!("{folder}/fd"))?.count() as u64;
        Ok(Usage { threads: number("Threads:")?, descriptors, rss_kib: number("VmRSS:")? })
    }

    /// Does `work`, and says the most that was held meanwhile.
    pub(crate) fn watched<T: Send>(&self, work: impl FnOnce() -> T) -> Result<(T, Usage), Error> {
        let (over, is_over) = bounded::<()>(0);
        std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let mut peak = Usage::default();
                loop {
                    peak = peak.most(self.usage().map_err(|error| error.to_string())?);
                    if is_over.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
                        return Ok(peak);
                    }
                }
            });
            let done = work();
            drop(over);
            let peak = watch.join().map_err(|_| "the watch panicked")?.map_err(|error: String| error)?;
            Ok((done, peak))
        })
    }

    /// Waits until it has held the same for `steady`, and says what.
    pub(crate) fn settled(&self, steady: Duration) -> Result<Usage, Error> {
        let fuse = Deadline::after(FUSE);
        let (mut last, mut since) = (self.usage()?, now());
        loop {
            pause(LOOK);
            let usage = self.usage()?;
            if (usage.threads, usage.descriptors) != (last.threads, last.descriptors) {
                since = now();
            }
            last = usage;
            if now() - since >= steady {
                return Ok(last);
            }
            if fuse.passed() {
                return Err(format!("it never comes to rest: {last:?}").into());
            }
        }
    }

    /// A connection to the data plane.
    pub(crate) fn connect(&self) -> Result<TcpStream, Error> {
        connect(self.data)
    }

    /// Whether a probe and a chat are served, each on a connection of its own.
    pub(crate) fn serves(&self) -> bool {
        let asked = |request: &str| -> Result<u16, Error> { status(connect(self.data)?, request) };
        asked(&get("/livez")).is_ok_and(|status| status == 200)
            && asked(&chat("sim/echo", false)).is_ok_and(|status| status == 200)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // One that has ended by itself is none to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits.
pub(crate) fn pause(time: Duration) {
    let _ = crossbeam_channel::after(time).recv();
}

/// A connection that gives up in time.
pub(crate) fn connect(to: SocketAddr) -> Result<TcpStream, Error> {
    let socket = TcpStream::connect_timeout(&to, FUSE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(FUSE))?;
    socket.set_write_timeout(Some(FUSE))?;
    Ok(socket)
}

/// A connection for which the system holds little, so that one who does not read is slow soon.
pub(crate) fn narrow(to: SocketAddr) -> Result<TcpStream, Error> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&to.into())?;
    socket.set_read_timeout(Some(FUSE))?;
    Ok(socket.into())
}

/// A request without a body.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// A chat request.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    let body = format!(r#"{{"model":"{model}","stream":{stream},{messages}}}"#);
    let length = body.len();
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The status of the next answer; 0 if the connection ends before one.
pub(crate) fn answered(socket: &mut TcpStream) -> u16 {
    let mut line = [0; 12];
    match socket.read_exact(&mut line) {
        Ok(()) => std::str::from_utf8(&line[9..]).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
        Err(_) => 0,
    }
}

/// Sends a request and reads its answer's status.
pub(crate) fn status(mut socket: TcpStream, request: &str) -> Result<u16, Error> {
    socket.write_all(request.as_bytes())?;
    Ok(answered(&mut socket))
}
