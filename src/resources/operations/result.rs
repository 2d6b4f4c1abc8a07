//! Limits the size of stored results by cutting their longest texts. Pure.

use serde_json::{Map, Value, json};

use crate::characters::shorten;

/// Largest stored result, in bytes of JSON.
pub(super) const RESULT_BYTES_MAX: usize = 65_536;
/// Length to which a top-level text is cut, in characters.
const CUT_CHARS: usize = 8_000;
/// Fields that may be cut, in the order in which they are cut until the result fits.
const CUT_ORDER: [&str; 4] = ["stdout", "stderr", "output", "logs"];
/// Lengths to which nested texts, such as the output of hooks, are cut, in characters. All of them are cut alike, to
/// the next length if the result still does not fit, so that the status of each part is never lost.
const NESTED_CUT_CHARS: [usize; 3] = [1_000, 100, 0];

/// Returns the result as it is stored: an object within the size limit, with `truncated` if something was cut.
pub(super) fn fit_to_limit(result: Value) -> Value {
    let mut object = match result {
        Value::Object(object) => object,
        Value::Null => Map::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Map::from_iter([("value".to_owned(), other)])
        }
    };
    if fits(&object) {
        return Value::Object(object);
    }
    object.insert("truncated".to_owned(), Value::Bool(true));
    for field in CUT_ORDER {
        if let Some(Value::String(text)) = object.get_mut(field)
            && shorten(text, CUT_CHARS)
            && fits(&object)
        {
            return Value::Object(object);
        }
    }
    for chars in NESTED_CUT_CHARS {
        for (_, value) in &mut object {
            cut_nested(value, chars);
        }
        if fits(&object) {
            return Value::Object(object);
        }
    }
    json!({ "truncated": true, "error": format!("the result is larger than {RESULT_BYTES_MAX} bytes") })
}

/// Removes the output of commands from a result and sets `outputs_withheld`.
pub(super) fn withhold(result: &mut Value) {
    if cut_nested(result, 0)
        && let Value::Object(object) = result
    {
        object.insert("outputs_withheld".to_owned(), Value::Bool(true));
    }
}

/// Returns whether a result has output of commands that [`withhold`] would remove.
pub(super) fn has_output(result: &Value) -> bool {
    cut_nested(&mut result.clone(), 0)
}

/// Cuts the nested texts that may be cut. Returns whether any was too long.
fn cut_nested(value: &mut Value, chars: usize) -> bool {
    let mut cut = false;
    match value {
        Value::Array(items) => {
            for item in items {
                cut |= cut_nested(item, chars);
            }
        }
        Value::Object(object) => {
            for (field, value) in object {
                if CUT_ORDER.contains(&field.as_str())
                    && let Value::String(text) = value
                {
                    cut |= shorten(text, chars);
                } else {
                    cut |= cut_nested(value, chars);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    cut
}

fn fits(object: &Map<String, Value>) -> bool {
    serde_json::to_vec(object).is_ok_and(|bytes| bytes.len() <= RESULT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a result whose JSON has this many bytes.
    fn text_of(bytes: usize) -> Value {
        let empty = json!({ "stdout": "" }).to_string().len();
        json!({ "stdout": "a".repeat(bytes - empty) })
    }

    #[test]
    fn a_result_that_fits_is_stored_unchanged() {
        for result in [json!({}), json!({ "exit_code": 1 }), text_of(RESULT_BYTES_MAX)] {
            assert_eq!(fit_to_limit(result.clone()), result);
        }
        assert_eq!(fit_to_limit(Value::Null), json!({}));
        assert_eq!(fit_to_limit(json!([1])), json!({ "value": [1] }));
    }

    #[test]
    fn one_excess_byte_truncates_the_first_text_and_sets_truncated() {
        let cut = fit_to_limit(text_of(RESULT_BYTES_MAX + 1));
        assert_eq!(cut, json!({ "stdout": "a".repeat(CUT_CHARS), "truncated": true }));
    }

    #[test]
    fn texts_are_truncated_in_order_until_the_result_fits() {
        let long = "x".repeat(40_000);
        let result = json!({ "exit_code": 0, "logs": long, "stderr": long, "stdout": long });
        let cut = fit_to_limit(result);
        let length = |field: &str| cut[field].as_str().unwrap().len();
        assert_eq!((length("stdout"), length("stderr"), length("logs")), (8_000, 8_000, 40_000));
        assert_eq!(cut["exit_code"], 0);
    }

    #[test]
    fn a_text_is_truncated_at_a_character_boundary() {
        let cut = fit_to_limit(json!({ "stdout": "\u{1f980}".repeat(20_000), "stderr": "short" }));
        assert_eq!(cut["stdout"].as_str().unwrap(), "\u{1f980}".repeat(CUT_CHARS));
        assert_eq!(cut["stderr"], "short");
    }

    #[test]
    fn a_result_that_does_not_fit_after_truncation_becomes_a_stub() {
        let other = "x".repeat(RESULT_BYTES_MAX);
        for result in [json!({ "stdout": "y", "other": other }), json!([other]), json!(other)] {
            let stub = fit_to_limit(result);
            assert_eq!(stub["truncated"], true);
            assert!(stub.to_string().len() < 200 && stub["error"].is_string());
        }
    }

    #[test]
    fn long_hook_outputs_are_truncated_and_every_hook_status_is_preserved() {
        let hook = |text: &str| json!({ "name": "loud", "status": "success", "output": text });
        for loud in ["x".repeat(4_096), "\u{1}".repeat(4_096)] {
            let hooks: Vec<Value> = (0..64).map(|_| hook(&loud)).collect();
            let cut = fit_to_limit(json!({ "ready": true, "hooks": { "post_create": hooks } }));
            assert_eq!((&cut["ready"], &cut["truncated"]), (&json!(true), &json!(true)));
            let left = cut["hooks"]["post_create"].as_array().unwrap();
            assert_eq!((left.len(), &left[63]["status"]), (64, &json!("success")));
            assert!(serde_json::to_vec(&cut).unwrap().len() <= RESULT_BYTES_MAX);
        }
    }

    #[test]
    fn withholding_removes_only_the_output_of_commands() {
        let mut result = json!({ "ready": true, "hooks": { "post_create": [{ "name": "a", "output": "secret" }] } });
        assert!(has_output(&result));
        withhold(&mut result);
        assert!(!has_output(&result));
        let left = json!({
            "ready": true,
            "hooks": { "post_create": [{ "name": "a", "output": "" }] },
            "outputs_withheld": true,
        });
        assert_eq!(result, left);
        let mut quiet = json!({ "ready": true });
        withhold(&mut quiet);
        assert!(!has_output(&quiet));
        assert_eq!(quiet, json!({ "ready": true }));
    }

    #[test]
    fn the_size_limit_counts_json_escapes() {
        // Each character takes six bytes of JSON, so all four texts exceed the limit even after they are cut.
        let long = "\u{1}".repeat(20_000);
        let result = json!({ "stdout": long, "stderr": long, "output": long, "logs": long });
        assert_eq!(fit_to_limit(result)["stdout"], Value::Null);
    }
}
