//! The programs under test: started on free ports of loopback, awaited, and ended.
//!
//! Each is started through this program's role `held`, which asks the kernel to end it with the bench and then becomes
//! it: a bench that is interrupted leaves no gateway behind. That costs the start about a millisecond, in each target
//! alike. nginx runs as one process (`master_process off`), so that its CPU and memory are one figure, as the gateway's.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::Error;
use crate::client;
use crate::fixture::{Ask, MODEL, Script};

/// First argument of the upstream.
pub(crate) const ROLE_UPSTREAM: &str = "upstream";

/// First argument of a program that is to end with its parent.
pub(crate) const ROLE_HELD: &str = "held";

/// How long a target may take to give its first answer, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The gateway's provider, and so the first part of the model's name there.
const PROVIDER: &str = "up";

/// Where nginx streams: `proxy_buffering` is a matter of the location.
const NGINX_STREAM: &str = "/stream";

/// What stands between the generator and the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Nginx,
    Gateway,
}

impl Kind {
    /// The kind of this name.
    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        let kinds = [Self::Direct, Self::Nginx, Self::Gateway];
        let kind = kinds.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| format!("unknown target {name}: it is direct, nginx or gateway").into())
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Gateway => "gateway",
        }
    }
}

/// A target that answers.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) addr: SocketAddr,
    /// From before the program was started to the end of its first answer; `None` where no program was.
    pub(crate) first_answer: Option<Duration>,
    process: Option<Process>,
}

impl Target {
    /// Starts a target and has it answer once. `nginx` and `gateway` are the programs, `folder` takes their files.
    pub(crate) fn start(
        kind: Kind,
        upstream: SocketAddr,
        folder: &Path,
        nginx: Option<&Path>,
        gateway: &Path,
    ) -> Result<Self, Error> {
        let addr = if kind == Kind::Direct { upstream } else { free_address()? };
        let process = match (kind, nginx) {
            (Kind::Direct, _) => None,
            (Kind::Nginx, None) => return Err("nginx is not installed".into()),
            (Kind::Nginx, Some(program)) => {
                let config = folder.join("nginx.conf");
                fs::write(&config, nginx_config(program, addr, upstream, folder)?)?;
                let args = ["-p".as_ref(), folder.as_os_str(), "-c".as_ref(), config.as_os_str()];
                Some(Process::start(kind.name(), Command::new(program).args(args), folder)?)
            }
            (Kind::Gateway, _) => {
                let config = folder.join("gateway.json");
                fs::write(&config, gateway_config(upstream))?;
                let mut command = Command::new(gateway);
                command.args(["serve".as_ref(), "--config".as_ref(), config.as_os_str()]);
                command.args(["--listen", &addr.to_string(), "--admin", &free_address()?.to_string()]);
                Some(Process::start(kind.name(), &command, folder)?)
            }
        };
        let begun = process.as_ref().map(|process| process.begun);
        let mut target = Self { kind, addr, first_answer: None, process };
        if let Some(begun) = begun {
            target.wait_until_ready(begun + PATIENCE)?;
        }
        client::ask(addr, &target.script(Ask::Chat)).map_err(|error| target.blame(error))?;
        target.first_answer = begun.map(|begun| begun.elapsed());
        Ok(target)
    }

    /// The question as this target is asked it.
    pub(crate) fn script(&self, ask: Ask) -> Script {
        let path = |prefix: &str| format!("{prefix}/v1/chat/completions");
        match (self.kind, ask) {
            (Kind::Gateway, _) => Script::new(ask, self.addr, &path(""), &format!("{PROVIDER}/{MODEL}")),
            (Kind::Nginx, Ask::Stream { .. }) => Script::new(ask, self.addr, &path(NGINX_STREAM), MODEL),
            _ => Script::new(ask, self.addr, &path(""), MODEL),
        }
    }

    /// The process id; `None` for the direct path.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Ends the target as an operator would, by SIGTERM.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let status = process.terminate()?;
        if status.is_none_or(|status| !status.success()) {
            let name = self.kind.name();
            eprintln!("yardstick: {name} did not end well on SIGTERM: {status:?}");
        }
        Ok(())
    }

    /// An error with the target's name and the end of what the program had to say.
    pub(crate) fn blame(&self, error: impl Into<Error>) -> Error {
        let log = self.process.as_ref().map(|process| fs::read_to_string(&process.log).unwrap_or_default());
        let lines: Vec<_> = log.as_deref().unwrap_or_default().lines().collect();
        let tail: String = lines[lines.len().saturating_sub(8)..].iter().map(|line| format!("\n    {line}")).collect();
        format!("{}: {}{tail}", self.kind.name(), error.into()).into()
    }

    fn wait_until_ready(&mut self, deadline: Instant) -> Result<(), Error> {
        let (kind, addr) = (self.kind, self.addr);
        let is_ready = || match kind {
            Kind::Gateway => client::status(addr, "/readyz") == Some(200),
            _ => TcpStream::connect(addr).is_ok(),
        };
        while !is_ready() {
            let exited = self.process.as_mut().map(|process| process.child.try_wait()).transpose()?.flatten();
            if let Some(status) = exited {
                return Err(self.blame(format!("ended before it was ready: {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.blame("not ready in time"));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// The upstream's process.
#[derive(Debug)]
pub(crate) struct Upstream {
    addr: SocketAddr,
    process: Process,
}

impl Upstream {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Result<Self, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Process::start("upstream", command.arg(ROLE_UPSTREAM), folder)?;
        let mut line = String::new();
        if let Some(stdout) = process.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let addr = line.trim().parse().map_err(|_| format!("the upstream did not start: {line}"))?;
        Ok(Self { addr, process })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }
}

/// A running program; ended at the latest when this is dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    begun: Instant,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, command: &Command, folder: &Path) -> Result<Self, Error> {
        let log = folder.join(format!("{name}.log"));
        let program = std::env::current_exe()?;
        let stderr = File::create(&log)?;
        let begun = Instant::now();
        let child = Command::new(program)
            .arg(ROLE_HELD)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(if name == ROLE_UPSTREAM { Stdio::piped() } else { Stdio::null() })
            .stderr(stderr)
            .spawn()?;
        Ok(Self { child, begun, log })
    }

    /// Asks it to end; `None` if it had to be killed.
    fn terminate(&mut self) -> Result<Option<ExitStatus>, Error> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The role `held`: becomes the program of the arguments, bound to end when the bench does.
pub(crate) fn run_held(mut args: impl Iterator<Item = String>) -> Result<(), Error> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let program = args.next().ok_or("no program to become")?;
    Err(format!("{program}: {}", Command::new(&program).args(args).exec()).into())
}

/// The nginx of this machine: on `PATH`, or where packages put it and an ordinary user's `PATH` does not look.
pub(crate) fn find_nginx() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

/// An address that is free now. Another program could take it meanwhile; then the target says so and the run ends.
fn free_address() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Everything of the gateway at its default, but for where the provider is.
fn gateway_config(upstream: SocketAddr) -> String {
    serde_json::json!({ "providers": { PROVIDER: {
        "kind": "openai",
        "keys": [{ "name": "yardstick", "value": "sk-yardstick", "models": ["*"], "weight": 1.0 }],
        "network_config": { "base_url": format!("http://{upstream}") },
    }}})
    .to_string()
}

/// One worker, connections kept on both sides for good, nothing logged.
fn nginx_config(program: &Path, addr: SocketAddr, upstream: SocketAddr, folder: &Path) -> Result<String, Error> {
    let folder = folder.display();
    // The compiled-in places of temporary files belong to root; a module that is not built in has no such directive.
    let built = Command::new(program).arg("-V").output()?.stderr;
    let built = String::from_utf8_lossy(&built);
    let temporary: String = ["fastcgi", "uwsgi", "scgi"]
        .iter()
        .filter(|module| !built.contains(&format!("--without-http_{module}_module")))
        .map(|module| format!("{module}_temp_path {folder}/nginx-{module};\n    "))
        .collect();
    Ok(format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    {temporary}keepalive_requests 1000000000;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    upstream up {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen {addr};
        location / {{ proxy_pass http://up; }}
        location {NGINX_STREAM}/ {{ proxy_pass http://up/; proxy_buffering off; }}
    }}
}}
"
    ))
}
