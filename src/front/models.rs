//! `GET /v1/models` and `/v1/models/{id}`: what there is to ask for, in OpenAI's shape, told without asking a provider.

use serde_json::{Value, json};

use super::answer;
use crate::config::Scope;
use crate::error::{Code, Error};
use crate::gateway::{Gateway, ModelName};
use crate::http::Response;

/// The models that a caller may use, of those that are known.
pub(super) fn list(gateway: &Gateway, scope: &Scope) -> Response {
    let data: Vec<_> = gateway.models().iter().filter(|model| may_use(scope, model)).map(object).collect();
    answer::json(&json!({ "object": "list", "data": data }))
}

/// One of them.
///
/// # Errors
/// [`Code::ModelNotFound`], for one that the caller may not use too: what is there is not told to everybody.
pub(super) fn one(gateway: &Gateway, id: Option<&str>, scope: &Scope) -> Result<Response, Error> {
    match id.and_then(|id| gateway.model(id)).filter(|model| may_use(scope, model)) {
        Some(model) => Ok(answer::json(&object(&model))),
        None => {
            let shown: String = id.unwrap_or_default().chars().take(120).collect();
            let text = format!("there is no model {shown:?} in the list; GET /v1/models gives it");
            Err(Error::new(Code::ModelNotFound, text).with_param("model"))
        }
    }
}

fn may_use(scope: &Scope, model: &ModelName) -> bool {
    scope.lists(&model.to_string())
}

/// When a model was made only its provider knows; the shape has a number there.
fn object(model: &ModelName) -> Value {
    json!({ "id": model.to_string(), "object": "model", "created": 0, "owned_by": model.provider })
}
