//! Where Bedrock's runtime is asked: `/model/{id}/converse` and its three neighbours, with ids as they are escaped.

use std::borrow::Cow;

use crate::error::{Code, Error};
use crate::model::{Named, Operation};
use crate::wire::percent::{percent_decode, percent_encode};

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A chat in the shape that is alike for all models.
    Converse,
    /// The same, streamed.
    ConverseStream,
    /// A request in the model's own shape.
    Invoke,
    /// The same, streamed.
    InvokeStream,
}

impl Action {
    /// What is asked for of Bedrock by `operation`, streamed or not; none by one of another shape.
    fn of(operation: &Operation, stream: bool) -> Option<Self> {
        match (operation, stream) {
            (Operation::Converse(_), false) => Some(Self::Converse),
            (Operation::Converse(_), true) => Some(Self::ConverseStream),
            (Operation::Invoke(_), false) => Some(Self::Invoke),
            (Operation::Invoke(_), true) => Some(Self::InvokeStream),
            _ => None,
        }
    }

    const ALL: [Self; 4] = [Self::Converse, Self::ConverseStream, Self::Invoke, Self::InvokeStream];

    /// The last part of its path.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Converse => "converse",
            Self::ConverseStream => "converse-stream",
            Self::Invoke => "invoke",
            Self::InvokeStream => "invoke-with-response-stream",
        }
    }

    /// Whether the answer is a stream of frames.
    const fn is_stream(self) -> bool {
        matches!(self, Self::ConverseStream | Self::InvokeStream)
    }

    /// Where it is asked of a model, by an id or an ARN of whatever kind: as botocore escapes it, so that a slash within an ARN
    /// is no slash of the path.
    fn path(self, model: &str) -> String {
        let mut path = String::with_capacity(model.len() * 2 + 40);
        path.push_str("/model/");
        percent_encode(model, &mut path);
        path.push('/');
        path.push_str(self.as_str());
        path
    }

    /// What a client's path asks for, and of which model; `None` if it is no such path. It has no query.
    ///
    /// An ARN may come with its slashes as they are: what follows the last of them is what is asked for.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the model's name is empty, or escaped in a way that means no text.
    fn of_path(path: &str) -> Option<Result<(Self, Cow<'_, str>), Error>> {
        let (model, action) = path.strip_prefix("/model/")?.rsplit_once('/')?;
        let action = Self::ALL.into_iter().find(|known| known.as_str() == action)?;
        let decoded = meaning(model).filter(|model| !model.is_empty());
        Some(decoded.map(|model| (action, model)).ok_or_else(|| {
            let text = "the path names no model: it is empty, or escaped in a way that means no text";
            Error::new(Code::InvalidRequest, text).with_param("modelId")
        }))
    }
}

/// Where `operation` is asked of `model`, streamed or not; none if it is no operation of Bedrock's.
pub(crate) fn path(operation: &Operation, model: &str, stream: bool) -> Option<String> {
    Action::of(operation, stream).map(|action| action.path(model))
}

/// What a client's path asks for; `None` if it is none of Bedrock's.
///
/// # Errors
/// As [`Action::of_path`].
pub(crate) fn operation(path: &str) -> Option<Result<Operation, Error>> {
    let asked = |(action, model): (Action, Cow<'_, str>)| {
        let named = Named { model: model.into_owned(), stream: action.is_stream() };
        match action {
            Action::Converse | Action::ConverseStream => Operation::Converse(named),
            Action::Invoke | Action::InvokeStream => Operation::Invoke(named),
        }
    };
    Action::of_path(path).map(|found| found.map(asked))
}

/// Refuses the names that a path cannot hold: whoever takes dot segments out of it, on the way or there, asks for another.
///
/// # Errors
/// [`Code::InvalidRequest`] for such a name.
pub(crate) fn check_model(model: &str) -> Result<(), Error> {
    match model {
        "." | ".." => {
            Err(Error::invalid("model", "a model of Bedrock's cannot be called so: its name is part of a path"))
        }
        _ => Ok(()),
    }
}

/// What an escaped text means; `None` if it means none.
fn meaning(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let (bytes, whole) = percent_decode(text);
    String::from_utf8(bytes).ok().filter(|_| whole).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// A call of boto3's, and where it goes.
    #[derive(Deserialize)]
    struct Sent {
        model: String,
        call: String,
        path: String,
    }

    #[test]
    fn calls_go_where_boto3_sends_them_and_are_read_from_there() {
        let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bedrock/paths.json"));
        let sent: Vec<Sent> = serde_json::from_slice(&text.expect("the paths")).expect("paths");
        assert!(sent.len() > 20);
        for Sent { model, call, path } in sent {
            let action = match &*call {
                "converse" => Action::Converse,
                "converse_stream" => Action::ConverseStream,
                "invoke_model" => Action::Invoke,
                _ => Action::InvokeStream,
            };
            assert_eq!(action.path(&model), path);
            assert_eq!(Action::of_path(&path).expect("a path").expect("good"), (action, Cow::Borrowed(&*model)));
            assert_eq!(action.is_stream(), call.ends_with("stream"));
        }
    }

    #[test]
    fn an_arn_may_come_as_it_is() {
        let arn = "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0";
        let path = format!("/model/{arn}/invoke");
        assert_eq!(Action::of_path(&path).expect("a path").expect("good"), (Action::Invoke, Cow::Borrowed(arn)));
    }

    #[test]
    fn other_paths_are_told_and_names_without_meaning_refused() {
        for path in
            ["/model/x", "/model/converse", "/model/x/conversed", "/models/x/converse", "/model/x/converse/", ""]
        {
            assert!(Action::of_path(path).is_none(), "{path}");
        }
        for path in
            ["/model//converse", "/model/%/converse", "/model/%4/converse", "/model/%zz/converse", "/model/%ff/invoke"]
        {
            let error = Action::of_path(path).expect("a path").expect_err("bad");
            assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("modelId")), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back(model in "\\PC{1,40}") {
            let path = Action::Converse.path(&model);
            prop_assert!(path.is_ascii());
            let (action, read) = Action::of_path(&path).expect("a path").expect("good");
            prop_assert_eq!((action, &*read), (Action::Converse, &*model));
        }
    }
}
