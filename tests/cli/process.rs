//! Runs the binary: in an empty environment and folder, with a fuse, ended by its id.
//!
//! Output goes to files rather than pipes, so that nothing has to read it while the process runs.

use std::ffi::OsStr;
use std::fs::{File, read_to_string};
use std::io::{PipeReader, PipeWriter, Read, Seek, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sluicegate::time::{Deadline, now};
use tempfile::TempDir;

use crate::canary::Search;

/// How long a process may take in all.
pub(crate) const FUSE: Duration = Duration::from_secs(20);

/// How long to wait between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// What a process came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Checks the exit code; says everything if it is another one.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A running process; one that is dropped is killed.
pub(crate) struct Process {
    child: Child,
    folder: TempDir,
    /// The end of its stderr that nobody reads.
    _unread: Option<PipeReader>,
    fuse: Deadline,
}

/// A command to be run.
pub(crate) struct Setup {
    command: Command,
    folder: TempDir,
    input: Option<File>,
    output: Option<Stdio>,
    errors: Option<PipeWriter>,
    unread: Option<PipeReader>,
    fuse: Duration,
}

/// The binary with these arguments.
pub(crate) fn sluicegate(args: &[&str]) -> Setup {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(args).env_clear().current_dir(folder.path());
    Setup { command, folder, input: None, output: None, errors: None, unread: None, fuse: FUSE }
}

impl Setup {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// One more argument, which need not be text.
    pub(crate) fn arg(mut self, arg: &OsStr) -> Self {
        self.command.arg(arg);
        self
    }

    /// How long it may take in all.
    pub(crate) fn fuse(mut self, fuse: Duration) -> Self {
        self.fuse = fuse;
        self
    }

    /// Puts a file into the folder that it runs in.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).expect("it is written");
        self
    }

    pub(crate) fn stdin(mut self, text: &str) -> Self {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");
        file.rewind().expect("it goes back");
        self.input = Some(file);
        self
    }

    /// The same through a pipe, which can be read once; what the pipe holds at most, the text may be long.
    pub(crate) fn stdin_piped(mut self, text: &str) -> Self {
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(text.as_bytes()).expect("it is written");
        self.input = Some(File::from(OwnedFd::from(reader)));
        self
    }

    /// Whoever would read its stdout has gone before it starts.
    pub(crate) fn unread(mut self) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        self.output = Some(writer.into());
        self
    }

    /// Its stderr is a pipe that is open and that nobody ever reads.
    pub(crate) fn stderr_unread(mut self) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        (self.unread, self.errors) = (Some(reader), Some(writer));
        self
    }

    /// Runs it with a closed stderr.
    pub(crate) fn stderr_closed(self) -> Self {
        self.through("exec \"$0\" \"$@\" 2>&-")
    }

    /// Runs it as somebody else, who can read its folder then.
    pub(crate) fn of_user(mut self, user: u32) -> Self {
        use std::os::unix::fs::chown;
        use std::os::unix::process::CommandExt as _;
        let folder = self.folder.path();
        let files = std::fs::read_dir(folder).expect("a folder").flatten().map(|file| file.path());
        files.chain([folder.to_owned()]).for_each(|path| chown(path, Some(user), None).expect("root may"));
        self.command.uid(user);
        self
    }

    /// Runs it with so many descriptors at most, beside those that this process was itself left by whoever started it.
    pub(crate) fn descriptors(self, most: u32) -> Self {
        self.through(&format!(
            "most={most} fd=3
            while [ $fd -lt $most ]; do [ -e /proc/$$/fd/$fd ] && most=$((most + 1)); fd=$((fd + 1)); done
            ulimit -n $most && exec \"$0\" \"$@\""
        ))
    }

    /// Has a shell run it by this script.
    fn through(mut self, script: &str) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(script).arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        shell.current_dir(self.folder.path());
        self.command = shell;
        self
    }

    pub(crate) fn start(self) -> Process {
        self.try_start().expect("the binary starts")
    }

    pub(crate) fn try_start(mut self) -> std::io::Result<Process> {
        let create = |name: &str| Stdio::from(File::create(self.folder.path().join(name)).expect("a file"));
        let child = self
            .command
            .stdin(self.input.take().map_or_else(Stdio::null, Stdio::from))
            .stdout(self.output.take().unwrap_or_else(|| create("stdout")))
            .stderr(self.errors.take().map_or_else(|| create("stderr"), Stdio::from))
            .spawn()?;
        Ok(Process { child, folder: self.folder, _unread: self.unread, fuse: Deadline::after(self.fuse) })
    }

    pub(crate) fn run(self) -> Done {
        self.start().wait()
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where `serve` listens: the data plane and the admin plane.
    pub(crate) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let address = |text: &str, plane: &str| -> Option<SocketAddr> {
            let line = text.lines().find(|line| line.starts_with(plane))?;
            line.rsplit_once("://")?.1.trim().parse().ok()
        };
        self.until("the banner", |process| {
            let text = process.stdout();
            // The curl line is the banner's last.
            text.contains("curl ").then_some(())?;
            Some((address(&text, "data plane")?, address(&text, "admin plane")?))
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Puts a file into the folder that it runs in, whole at once.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).expect("it is written");
        std::fs::rename(new, self.folder.path().join(name)).expect("it takes the other's place");
    }

    pub(crate) fn wait(mut self) -> Done {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            assert!(!self.fuse.passed(), "it still runs though its time is over: {}", self.stderr());
            pause();
        };
        let done = Done { code: status.code(), stdout: self.stdout(), stderr: self.stderr() };
        Search::known().assert_clean("its stdout", &done.stdout);
        Search::known().assert_clean("its stderr", &done.stderr);
        done
    }

    pub(crate) fn stdout(&self) -> String {
        text(self.folder.path(), "stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        text(self.folder.path(), "stderr")
    }

    /// Waits until `reached` finds what it looks for.
    pub(crate) fn until<T>(&self, what: &str, mut reached: impl FnMut(&Self) -> Option<T>) -> T {
        loop {
            if let Some(found) = reached(self) {
                return found;
            }
            assert!(!self.fuse.passed(), "not in time: {what}\n{}\n{}", self.stdout(), self.stderr());
            pause();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is none to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(folder: &Path, name: &str) -> String {
    read_to_string(folder.join(name)).unwrap_or_default()
}

fn pause() {
    let _ = crossbeam_channel::after(LOOK).recv();
}

/// A gateway that serves, and both its addresses.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Serves `config` on free ports.
pub(crate) fn serve(config: &str) -> Served {
    serve_for(config, FUSE)
}

/// The same for a process that may take so long in all.
pub(crate) fn serve_for(config: &str, fuse: Duration) -> Served {
    let process = sluicegate(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .file("sluicegate.json", config)
        .fuse(fuse)
        .start();
    let (data, admin) = process.addresses();
    Served { process, data, admin }
}

/// A request whose answer is read to the connection's end.
pub(crate) struct Reading(TcpStream);

/// Sends a request that asks for the connection to be closed after its answer.
pub(crate) fn request(to: SocketAddr, method: &str, path: &str, body: &str) -> Reading {
    request_of(to, method, path, &[], body)
}

/// The same with further header lines.
fn request_of(to: SocketAddr, method: &str, path: &str, lines: &[&str], body: &str) -> Reading {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let mut stream = TcpStream::connect_timeout(&to, FUSE).expect("it listens");
    stream.set_read_timeout(Some(FUSE)).expect("a time-out");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-type: application/json\r\n{lines}\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).expect("it is sent");
    Reading(stream)
}

/// A chat body.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    serde_json::json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": "one two" }] })
        .to_string()
}

impl Reading {
    /// Reads until what has come holds `mark`.
    pub(crate) fn read_until(&mut self, mark: &str) -> String {
        let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
        while !String::from_utf8_lossy(&seen).contains(mark) {
            let n = self.0.read(&mut buffer).expect("it goes on");
            assert!(n > 0, "it ended without {mark:?}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// The rest, to the connection's end.
    pub(crate) fn rest(mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("it ends");
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// The status and the whole text of an answer.
pub(crate) fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    ask_with(to, method, path, &[], body)
}

/// The same with further header lines.
pub(crate) fn ask_with(to: SocketAddr, method: &str, path: &str, lines: &[&str], body: &str) -> (u16, String) {
    let text = request_of(to, method, path, lines, body).rest();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {text:?}")), text)
}

/// How long `work` takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = now();
    let value = work();
    (now().saturating_duration_since(start), value)
}
