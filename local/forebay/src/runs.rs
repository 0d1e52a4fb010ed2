//! Runs of an operators' function that may take several invocations: each ends before the function's time is up and says where
//! the next one is to begin.

use serde_json::{Map, Value};

use crate::place::ReachedPipeline;

/// The members of a request that say where to begin and end, and of an answer that say where the next one does.
#[derive(Clone, Copy, Debug)]
pub enum Continuing {
    /// By partition and offset: `next` and `until`.
    Offsets,
    /// By the key of an object: `next_key`.
    Key,
}

impl Continuing {
    /// The request that goes on after this answer; `None` if nothing is left, or only what another run is working on.
    fn next_request(self, request: &Value, answer: &Value) -> Option<Value> {
        let mut next = request.clone();
        match self {
            Continuing::Offsets => {
                if !answer["next_at"].is_null() {
                    return None;
                }
                next["from_offsets"] = answer.get("next")?.clone();
                if let Some(until) = answer.get("until") {
                    next["until_offsets"] = until.clone();
                }
            }
            Continuing::Key => next["from_key"] = answer.get("next_key")?.clone(),
        }
        // A run that did not come on waits for another one's letters.
        (next != *request).then_some(next)
    }
}

/// Calls a function until its run is complete. Returns the sums of its answers.
///
/// # Errors
/// If a call fails. What was done before stays done.
pub async fn run_all(
    at: &ReachedPipeline,
    function: &str,
    mut request: Value,
    continuing: Continuing,
) -> anyhow::Result<Value> {
    let mut total = Value::Null;
    loop {
        let answer = at.call(function, &request).await?;
        let next = continuing.next_request(&request, &answer);
        add(&mut total, answer);
        match next {
            Some(next) => request = next,
            None => return Ok(total),
        }
    }
}

/// Examples of one kind that are kept.
const EXAMPLES: usize = 3;

/// Adds an answer's counts to the total. Of what is no count, the later one holds; of first times, the first.
pub(crate) fn add(total: &mut Value, answer: Value) {
    match (total, answer) {
        (Value::Object(total), Value::Object(answer)) => add_members(total, answer),
        (Value::Array(total), Value::Array(answer)) => total.extend(answer),
        (total, answer) => match (total.as_u64(), answer.as_u64()) {
            (Some(before), Some(more)) => *total = (before + more).into(),
            _ => *total = answer,
        },
    }
}

fn add_members(total: &mut Map<String, Value>, answer: Map<String, Value>) {
    // Where a run goes on is only true of its last answer.
    for position in ["next", "until", "next_at", "next_key"] {
        total.remove(position);
    }
    for (name, value) in answer {
        let Some(before) = total.get_mut(&name) else {
            total.insert(name, value);
            continue;
        };
        match name.as_str() {
            "first_failed_at" => {}
            "examples" => {
                add(before, value);
                before.as_array_mut().into_iter().for_each(|examples| examples.truncate(EXAMPLES));
            }
            _ => add(before, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_next_request_begins_and_ends_where_the_answer_says() {
        let request = json!({"action": "redrive"});
        let next = |answer: Value| Continuing::Offsets.next_request(&request, &answer);
        assert_eq!(
            next(json!({"sent": 1, "next": {"0": 5}, "until": {"0": 9}})),
            Some(json!({"action": "redrive", "from_offsets": {"0": 5}, "until_offsets": {"0": 9}}))
        );
        assert_eq!(next(json!({"sent": 1})), None);
        assert_eq!(next(json!({"next": {"0": 5}, "next_at": "2026-11-20T18:00:00Z"})), None, "another run has them");
        let same = json!({"action": "release", "from_key": "a"});
        assert_eq!(Continuing::Key.next_request(&same, &json!({"next_key": "a"})), None, "it would never end");
        let on = Continuing::Key.next_request(&same, &json!({"next_key": "b"})).unwrap();
        assert_eq!(on["from_key"], "b");
    }

    #[test]
    fn answers_of_one_run_are_summed() {
        let mut total = Value::Null;
        add(
            &mut total,
            json!({"sent": 2, "dry_run": false, "next": {"0": 1}, "reasons": {"a": {"letters": 1, "examples": [1, 2],
                "first_failed_at": "1", "last_failed_at": "2"}}}),
        );
        add(
            &mut total,
            json!({"sent": 3, "dry_run": false, "reasons": {"a": {"letters": 4, "examples": [3, 4],
                "first_failed_at": "3", "last_failed_at": "4"}, "b": {"letters": 1}}}),
        );
        let a = json!({"letters": 5, "examples": [1, 2, 3], "first_failed_at": "1", "last_failed_at": "4"});
        assert_eq!(total, json!({"sent": 5, "dry_run": false, "reasons": {"a": a, "b": {"letters": 1}}}));
    }
}
