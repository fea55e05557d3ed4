//! A gateway of the release build as a process of its own, on the simulated provider and free ports of loopback.
//!
//! It is started through this program's role `held`, which asks the kernel to end it with the bench and then becomes it: a
//! bench that is interrupted leaves no gateway behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::Value;

use crate::Error;

/// First argument of a program that is to end with its parent; the program and its own arguments follow.
const ROLE_HELD: &str = "held";

/// How long the gateway may take to start, to answer on its admin plane, and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// A gateway that answers; ended at the latest when this is dropped.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    folder: tempfile::TempDir,
}

/// If this process was started to be held, becomes what it is to hold; returns only if it was not.
pub(crate) fn hold_if_asked() -> Result<(), Error> {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != ROLE_HELD) {
        return Ok(());
    }
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let program = args.next().ok_or("held: no program")?;
    Err(Command::new(program).args(args).exec().into())
}

impl Served {
    /// Starts it with this configuration, whose `server` must not say where to listen.
    pub(crate) fn start(config: &Value) -> Result<Self, Error> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("gateway.json");
        fs::write(&file, config.to_string())?;
        let mut child = Command::new(std::env::current_exe()?)
            .args([ROLE_HELD, env!("CARGO_BIN_EXE_sluicegate"), "serve", "--config"])
            .arg(&file)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("stderr"))?)
            .spawn()?;
        let mut banner = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let (mut data, mut admin, mut line) = (None, None, String::new());
        while (data.is_none() || admin.is_none()) && banner.read_line(&mut line)? > 0 {
            let addr = |prefix: &str| line.strip_prefix(prefix)?.trim().strip_prefix("http://")?.parse().ok();
            data = data.or_else(|| addr("data plane"));
            admin = admin.or_else(|| addr("admin plane"));
            line.clear();
        }
        let told = fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
        let (data, admin) = data.zip(admin).ok_or_else(|| format!("the gateway did not start: {told}"))?;
        // What else it prints is read by nobody, and little.
        child.stdout = Some(banner.into_inner());
        Ok(Self { child, data, admin, folder })
    }

    /// `/stats`, taken now.
    pub(crate) fn stats(&self) -> Result<Value, Error> {
        let mut socket = TcpStream::connect_timeout(&self.admin, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        write!(socket, "GET /stats?fresh=1 HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer of the admin plane")?;
        Ok(serde_json::from_str(body)?)
    }

    /// What it wrote to standard error.
    pub(crate) fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Ends it as an operator would; says so if it did not end well.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("the gateway ended with {status}: {}", self.told()).into()),
                None if Instant::now() > until => return Err("the gateway does not end".into()),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
