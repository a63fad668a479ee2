//! Vectors and scores of a small model whose numbers a reference has computed.

use super::Server;
use crate::registry::Named;
use sampan_fixtures::embedding::{fixture, write_folder};
use serde_json::{Value, json};

/// A server with the model of `fixtures/embedding`, and what its folder holds.
fn server(prefix: &str, context: Option<usize>) -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), prefix).unwrap();
    let server = Server::with(|options| {
        options.models = vec![Named::parse(&format!("ranker={}", folder.path().display()))];
        options.load.kv = sampan_facade::KvFormat::F32;
        options.load.context = context;
    });
    (server, folder)
}

#[track_caller]
fn close(ours: &Value, reference: &Value) {
    let (ours, reference) = (ours.as_f64().unwrap(), reference.as_f64().unwrap());
    assert!((ours - reference).abs() <= 1e-3, "{ours} {reference}");
}

#[tokio::test]
async fn every_way_to_ask_for_scores_gives_those_of_the_reference() {
    let (server, _folder) = server("model.", None);
    let expected = fixture("expected.json").unwrap();
    let documents = expected["documents"].as_array().unwrap();
    let texts: Vec<&Value> = documents.iter().map(|d| &d["text"]).collect();
    let ask = json!({"query": expected["query"], "documents": texts, "return_documents": true});
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let answer = server.post(path, &ask).await.json();
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), documents.len(), "{answer}");
        for result in results {
            let document = &documents[result["index"].as_u64().unwrap() as usize];
            assert_eq!(result["document"]["text"], document["text"]);
            close(&result["relevance_score"], &document["score"]);
        }
        let scores: Vec<f64> = results.iter().map(|r| r["relevance_score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
    let plain = json!({"query": expected["query"], "texts": texts, "return_text": true});
    for result in server.post("/rerank", plain).await.json().as_array().unwrap() {
        let document = &documents[result["index"].as_u64().unwrap() as usize];
        assert_eq!(result["text"], document["text"]);
        close(&result["score"], &document["score"]);
    }
    let queries = vec![&expected["query"]; texts.len()];
    for ask in [
        json!({"text_1": expected["query"], "text_2": texts}),
        json!({"data_1": queries, "data_2": texts}),
        json!({"queries": [expected["query"]], "documents": texts}),
    ] {
        for path in ["/score", "/v1/score"] {
            let answer = server.post(path, &ask).await.json();
            let data = answer["data"].as_array().unwrap();
            assert_eq!(data.len(), documents.len(), "{answer}");
            for (at, (entry, document)) in data.iter().zip(documents).enumerate() {
                assert_eq!((&entry["index"], &entry["object"]), (&json!(at), &json!("score")));
                close(&entry["score"], &document["score"]);
            }
            let tokens: u64 = documents.iter().map(|d| d["tokens"].as_u64().unwrap()).sum();
            assert_eq!(answer["usage"]["prompt_tokens"], tokens);
        }
    }
}

#[tokio::test]
async fn scores_that_cannot_be_had_are_refused_by_field() {
    let (server, _folder) = server("model.", None);
    for (path, ask, code, param) in [
        (
            "/rerank",
            json!({"query": "a", "texts": ["b"], "raw_scores": true}),
            "unsupported_value",
            "raw_scores",
        ),
        ("/rerank", json!({"query": "a", "texts": ["b"], "top_n": 1}), "unknown_field", "top_n"),
        ("/rerank", json!({"query": "a", "texts": ["b"], "documents": ["c"]}), "unknown_field", "texts"),
        ("/rerank", json!({"query": "a"}), "missing", "documents"),
        ("/score", json!({}), "missing", "text_1"),
        ("/score", json!({"text_1": "a", "data_2": "b"}), "missing", "text_2"),
        ("/score", json!({"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}), "contradiction", "text_1"),
        ("/score", json!({"text_1": "a", "text_2": [1]}), "wrong_type", "text_2[0]"),
        ("/score", json!({"text_1": "a", "text_2": []}), "out_of_range", "text_2"),
    ] {
        let reply = server.post(path, &ask).await;
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["code"], &error["param"]),
            (400, &json!(code), &json!(param)),
            "{ask}"
        );
    }
}

#[tokio::test]
async fn a_text_for_a_vector_is_cut_when_that_is_asked_for_and_never_in_silence() {
    let (server, _folder) = server("", Some(16));
    let ask =
        |truncate: bool| json!({"model": "ranker", "input": ["a", "a ".repeat(40)], "truncate": truncate});
    let reply = server.post("/api/embed", ask(false)).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.body.contains("16"), "{reply:?}");
    let answer = server.post("/api/embed", ask(true)).await.json();
    assert_eq!(answer["embeddings"].as_array().unwrap().len(), 2);
    let warnings = answer["warnings"].as_array().unwrap();
    let text = warnings[0]["message"].as_str().unwrap();
    assert!(
        warnings.len() == 1 && text.starts_with("input[1] has ") && text.ends_with("left out"),
        "{answer}"
    );
}
