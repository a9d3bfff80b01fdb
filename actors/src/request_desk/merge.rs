//! How a change is merged into the dynamic configuration: objects key by key, null removes, everything else replaces.

use serde_json::{Map, Value};

/// `patch` merged into `document`; the order of keys that stay is kept.
pub(super) fn merged(document: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut result = document.clone();
    for (key, wanted) in patch {
        match (result.get_mut(key), wanted) {
            // not `remove`, which moves the last key to the place of the one removed
            (_, Value::Null) => drop(result.shift_remove(key)),
            (Some(Value::Object(present)), Value::Object(wanted)) => *present = merged(present, wanted),
            (_, Value::Object(wanted)) => {
                let whole = merged(&Map::new(), wanted);
                // what only removes has nothing to remove here
                if !whole.is_empty() || wanted.is_empty() {
                    result.insert(key.clone(), Value::Object(whole));
                }
            }
            (_, Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                result.insert(key.clone(), wanted.clone());
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_merged_nulls_remove_and_the_rest_replaces() {
        for (document, patch, expected) in [
            (json!({"a": 1, "b": 2}), json!({"b": 3, "c": 4}), r#"{"a":1,"b":3,"c":4}"#),
            (json!({"a": 1, "b": 2, "c": 3}), json!({"a": null, "x": null}), r#"{"b":2,"c":3}"#),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null, "d": 3}}), r#"{"a":{"c":2,"d":3}}"#),
            (json!({"a": {"b": 1}}), json!({"a": {"b": null}}), r#"{"a":{}}"#),
            (json!({}), json!({"a": {"b": null}}), "{}"),
            (json!({}), json!({"a": {"b": null, "c": {"d": null, "e": 1}}}), r#"{"a":{"c":{"e":1}}}"#),
            (json!({}), json!({"a": {}}), r#"{"a":{}}"#),
            (json!({"a": 1}), json!({"a": {"b": 2, "c": null}}), r#"{"a":{"b":2}}"#),
            (json!({"a": 1}), json!({"a": {"b": null}}), r#"{"a":1}"#),
            (json!({"a": {"b": 1}}), json!({"a": [null, {"b": null}]}), r#"{"a":[null,{"b":null}]}"#),
            (json!({"a": 30}), json!({"a": "30"}), r#"{"a":"30"}"#),
        ] {
            let (document, patch) = (document.as_object().unwrap(), patch.as_object().unwrap());
            assert_eq!(Value::Object(merged(document, patch)).to_string(), expected);
        }
    }
}
