//! `chat -i`: a conversation, turn by turn.
//!
//! The thread that reads is the one that asks and prints. A thread of its own hears Ctrl-C: it cancels the answer that is
//! under way, if one is; else it says how to leave where somebody types, and ends the process where nobody does, for the
//! read of a pipe cannot be ended otherwise. The terminal edits the line: backspace, Ctrl-W and Ctrl-U are its own.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::lines::{Asked, COMMANDS, Turns, Waiting, read};
use super::speak;
use crate::cli::output::{Failure, note};
use crate::cli::process::Signals;
use crate::cli::terminal;
use crate::gateway::{CallOptions, Gateway};
use crate::sync::{CancelToken, Role, State, threads};
use crate::wire::openai::{ChatRequest, Message};

/// The answer under way, for whoever ends it.
type Current = Arc<ArcSwapOption<CancelToken>>;

/// A conversation.
struct Session<'a> {
    gateway: &'a Gateway,
    conversation: ChatRequest,
    /// What was asked last, and whether it and its answer end the conversation.
    question: Option<(String, bool)>,
    current: Current,
    typed: bool,
    turns: u64,
    failed: u64,
}

pub(super) fn run(gateway: &Gateway, model: &str, first: String) -> Result<(), Failure> {
    let (typed, current) = (terminal::is_typed_into(), Current::default());
    hear_interrupts(gateway, typed, &current)?;
    if typed {
        note(&format!("{model} answers; /help lists what can be done, Ctrl-D leaves"));
    }
    let conversation = ChatRequest::to(model);
    let mut session = Session { gateway, conversation, question: None, current, typed, turns: 0, failed: 0 };
    if !first.is_empty() {
        session.say(first)?;
    }
    let mut turns = Turns::new(std::io::stdin().lock());
    while let Some(turn) = turns.next(|waiting| prompt(typed, waiting))? {
        if turn.text().trim().is_empty() {
            continue;
        }
        if !session.take(read(turn))? {
            return session.end();
        }
    }
    if typed {
        // Ctrl-D leaves the cursor behind the prompt.
        note("");
    }
    session.end()
}

/// Ends the answer under way at each Ctrl-C.
fn hear_interrupts(gateway: &Gateway, typed: bool, current: &Current) -> Result<(), Failure> {
    let signals = Signals::listen_to_interrupts(gateway.threads())?;
    let current = Arc::clone(current);
    let hear = move || {
        loop {
            {
                let _resting = threads::rest(State::WaitingChannel, Duration::MAX);
                if signals.channel().recv().is_err() {
                    return;
                }
            }
            match current.swap(None) {
                Some(answer) => drop(answer.cancel()),
                None if typed => {
                    note("\nCtrl-D or /quit leaves");
                    prompt(typed, Waiting::Turn);
                }
                None => std::process::exit(1),
            }
        }
    };
    gateway.threads().service(Role::Watchdog, "interrupts", hear)?;
    Ok(())
}

fn prompt(typed: bool, waiting: Waiting) {
    if typed {
        let mark = if waiting == Waiting::Turn { "> " } else { "… " };
        // Nothing can be done about a closed stderr.
        let _ = write!(std::io::stderr().lock(), "{mark}");
    }
}

impl Session<'_> {
    /// Does what is asked; whether the session goes on.
    fn take(&mut self, asked: Asked) -> Result<bool, Failure> {
        match asked {
            Asked::Say(text) => self.say(text)?,
            Asked::Quit => return Ok(false),
            Asked::Help => {
                for (command, rest, does) in COMMANDS {
                    note(&format!("{:<14} {does}", format!("{command} {rest}")));
                }
                note("A line that ends with \\ goes on in the next; lines between two lines of \"\"\" are one turn.");
            }
            Asked::Model(name) => {
                if !name.is_empty() {
                    self.conversation.model = name;
                }
                note(&format!("{} answers", self.conversation.model));
            }
            Asked::System(text) => {
                self.conversation.messages.retain(|message| message.role != "system");
                if text.is_empty() {
                    note("nothing is told to the model beforehand");
                } else {
                    self.conversation.messages.insert(0, Message::system(text));
                }
            }
            Asked::Clear => {
                self.conversation.messages.retain(|message| message.role == "system");
                self.question = None;
            }
            Asked::Retry => match self.question.clone() {
                Some((question, answered)) => {
                    if answered {
                        self.conversation.messages.pop();
                        self.conversation.messages.pop();
                    }
                    self.say(question)?;
                }
                None => self.refuse("nothing was asked yet"),
            },
            Asked::Save(file) => match self.save(&file) {
                Ok(()) => note(&format!("{file}: {} messages", self.conversation.messages.len())),
                Err(error) => self.refuse(&format!("{file} is not written: {error}")),
            },
            Asked::Wrong(why) => self.refuse(&why),
        }
        Ok(true)
    }

    /// One turn: asks, and prints the answer as it comes. A question that got no answer is taken back, so that the
    /// conversation is what both sides know of it; of an answer that was ended early, what came is kept.
    fn say(&mut self, text: String) -> Result<(), Failure> {
        self.turns += 1;
        self.conversation.messages.push(Message::user(text.clone()));
        let token = CancelToken::new();
        self.current.store(Some(Arc::new(token.clone())));
        let calls = self.gateway.with(CallOptions::new().cancel(token.clone()));
        let spoken = speak(&calls, &self.conversation);
        self.current.store(None);
        let spoken = spoken?;
        let kept = spoken.error.is_none() || (token.is_cancelled() && !spoken.text.is_empty());
        self.question = Some((text, kept));
        if kept {
            self.conversation.messages.push(Message::assistant(spoken.text));
        } else {
            self.conversation.messages.pop();
        }
        match (spoken.error, spoken.summary) {
            (Some(_), _) if token.is_cancelled() => note(if kept { "ended; what came is kept" } else { "ended" }),
            (Some(error), _) => self.refuse(&error.to_string()),
            (None, Some(summary)) => note(&summary),
            (None, None) => {}
        }
        Ok(())
    }

    /// Says why something was not done, and goes on.
    fn refuse(&mut self, why: &str) {
        self.failed += 1;
        note(&format!("error: {why}"));
    }

    /// Writes the conversation as a body that can be sent.
    fn save(&self, file: &str) -> std::io::Result<()> {
        let body: serde_json::Value = serde_json::from_slice(&self.conversation.to_body(false))?;
        let mut out = OpenOptions::new().write(true).create_new(true).open(file)?;
        writeln!(out, "{body:#}")
    }

    fn end(self) -> Result<(), Failure> {
        // Who types has seen it; a script sees its exit code.
        if self.typed || self.failed == 0 {
            return Ok(());
        }
        Err(Failure::Job(format!("{} of what was asked failed, in {} turns", self.failed, self.turns)))
    }
}
