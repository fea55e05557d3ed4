//! A conversation as Anthropic's models take it, in whichever shape: turns of user and model that alternate.
//!
//! - Neighbours of one role become one turn, the results of tools first in it ("Handle tool calls": results come first, and in
//!   the turn right after the calls).
//! - Texts of nothing but space, which are refused, are left out, and so is a turn that is then empty. The space at the end of
//!   an answer that is to be continued goes, too: see [`Item::text`].
//! - There is one place for what the system says. Texts of its in the middle of a conversation go to its end, as Anthropic's own
//!   endpoint for OpenAI's shape does ("OpenAI SDK compatibility"): they keep their authority rather than their place. Newer
//!   models take them in place, but no others, and not everywhere.
//! - Thoughts without their provider's signature are refused; it does as well without them, and they are told as lost.

use crate::error::{Code, Error};
use crate::model::chat::{Block, Lost, Names, Request, Role};

/// A block of a turn, and what stands beside it.
#[derive(Debug)]
pub(crate) struct Item<'r> {
    pub(crate) block: &'r Block<'r>,
    /// Which of the caller's messages it is of, for errors.
    pub(crate) at: usize,
    /// What is before this may be cached.
    pub(crate) mark: bool,
    /// The answer goes on from here.
    continued: bool,
}

impl Item<'_> {
    /// A text as it is sent.
    pub(crate) fn text<'t>(&self, text: &'t str) -> &'t str {
        if self.continued { text.trim_end() } else { text }
    }
}

/// What one side says at once. It is never empty.
#[derive(Debug)]
pub(crate) struct Turn<'r> {
    pub(crate) role: Role,
    pub(crate) items: Vec<Item<'r>>,
}

/// What the system says, before the conversation and in it.
pub(crate) fn system<'r>(request: &'r Request<'r>) -> Vec<Item<'r>> {
    let mut items = Vec::new();
    gather(0, &request.system, &mut items, None);
    for (at, message) in request.messages.iter().enumerate() {
        if message.role == Role::System {
            gather(request.before + at, &message.content, &mut items, None);
        }
    }
    items
}

/// The conversation, turn by turn.
pub(crate) fn turns<'r>(request: &'r Request<'r>, lost: &mut Lost) -> Vec<Turn<'r>> {
    let mut turns: Vec<Turn<'_>> = Vec::with_capacity(request.messages.len());
    let said = request.messages.iter().enumerate().filter(|(_, message)| message.role != Role::System);
    for (at, message) in said {
        let at = request.before + at;
        let lost = Some((&mut *lost, request.names));
        match turns.last_mut() {
            Some(turn) if turn.role == message.role => gather(at, &message.content, &mut turn.items, lost),
            _ => {
                let mut items = Vec::with_capacity(message.content.len());
                gather(at, &message.content, &mut items, lost);
                if !items.is_empty() {
                    turns.push(Turn { role: message.role, items });
                }
            }
        }
    }
    for turn in &mut turns {
        // Stable: results keep their order, and so does the rest.
        turn.items.sort_by_key(|item| !matches!(item.block, Block::ToolResult { .. }));
    }
    if let Some(Turn { role: Role::Assistant, items }) = turns.last_mut()
        && let Some(last) = items.last_mut()
    {
        last.continued = true;
    }
    turns
}

/// What a result of a tool says.
pub(crate) fn result<'r>(at: usize, blocks: &'r [Block<'r>]) -> Vec<Item<'r>> {
    let mut items = Vec::with_capacity(blocks.len());
    gather(at, blocks, &mut items, None);
    items
}

/// Adds the blocks of a message that can be written, each with its mark, which thoughts cannot have.
fn gather<'r>(at: usize, blocks: &'r [Block<'r>], items: &mut Vec<Item<'r>>, mut lost: Option<(&mut Lost, &Names)>) {
    // The last that can be marked: looked for among all of them, it would be a long way for each of many marks.
    let mut marked = None;
    for block in blocks {
        match block {
            Block::Text(text) if text.trim().is_empty() => {}
            Block::Thinking { .. } if !block.is_sealed() => {
                if let Some((lost, names)) = &mut lost {
                    lost.hint(names.thoughts);
                }
            }
            Block::CacheMark => {
                if let Some(item) = marked.and_then(|last: usize| items.get_mut(last)) {
                    item.mark = true;
                }
            }
            _ => {
                if !matches!(block, Block::Thinking { .. } | Block::HiddenThinking(_)) {
                    marked = Some(items.len());
                }
                items.push(Item { block, at, mark: false, continued: false });
            }
        }
    }
}

/// The refusal of a call whose arguments are no JSON object. Only who writes them as text can send such.
pub(crate) fn bad_arguments(at: usize, id: &str) -> Error {
    let text =
        format!("the arguments of the call {id:?} in message {at} are no JSON object, which this provider takes alone");
    Error::new(Code::InvalidRequest, text).with_param(format!("messages.{at}.tool_calls"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::chat::Message;
    use crate::time::now;

    #[test]
    fn many_marks_behind_many_thoughts_are_no_long_way() {
        let mut content = vec![Block::HiddenThinking("x".into()); 100_000];
        content.extend(vec![Block::CacheMark; 100_000]);
        let request = Request { messages: vec![Message { role: Role::Assistant, content }], ..Request::default() };
        let begun = now();
        assert_eq!(turns(&request, &mut Lost::default())[0].items.len(), 100_000);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[test]
    fn only_the_last_words_of_an_answer_that_goes_on_lose_their_space() {
        let said = |text: &'static str| vec![Block::Text(text.into())];
        let message = |role, content| Message { role, content };
        let messages = vec![
            message(Role::Assistant, said("a ")),
            message(Role::User, said("b ")),
            message(Role::Assistant, [said("c "), said("d ")].concat()),
        ];
        let request = Request { messages, ..Request::default() };
        let told = turns(&request, &mut Lost::default());
        let texts = told.iter().flat_map(|turn| &turn.items).map(|item| match item.block {
            Block::Text(text) => item.text(text),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["a ", "b ", "c ", "d"]);
    }
}
