//! A record as a picture: how much of what the machine allows is reached, by us and by the peer.

use crate::record::{figure, heading, rows, text};
use serde_json::Value;
use std::fmt::Write;
use std::fs;

const WIDTH: usize = 760;
/// Where bars begin, and how long the limit is.
const LEFT: usize = 210;
const TRACK: usize = 344;
/// Heights of a row, of a bar, and of a line of text.
const ROW: usize = 36;
const BAR: usize = 11;
const LINE: usize = 30;

/// Legible on light and on dark pages; viewers that know neither get the first.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-size:16px;font-weight:600}.model{font-weight:600}.quiet{fill:#6e7781}.end{text-anchor:end}\
.limit{fill:#8b949e;fill-opacity:.22}.ours{fill:#0b7a75}.peer{fill:#8b949e}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#8d96a0}.ours{fill:#2bb5ac}.peer{fill:#768390}}";

/// Draws the record in a file.
///
/// # Errors
/// When the file cannot be read or is no record.
pub fn run(path: &str) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|e| format!("{path}: {e}"))?;
    let record: Value = serde_json::from_slice(&bytes).map_err(|e| format!("{path} is not JSON: {e}"))?;
    if !record["runs"].is_array() {
        return Err(format!("{path} is no record: give a .json that `xtask bench` has written"));
    }
    Ok(svg(&record))
}

/// The picture.
pub fn svg(record: &Value) -> String {
    let mut body = String::new();
    let mut y = 28;
    put(&mut body, 16, y, "title", "Tokens per second, as a share of what this machine allows");
    y += 22;
    put(&mut body, 16, y, "quiet", &heading(record));
    y += 24;
    legend(&mut body, y);
    let runs = record["runs"].as_array().map_or(&[][..], Vec::as_slice);
    for run in runs {
        y += LINE;
        let name = text(&run["model"]);
        put(&mut body, 16, y, "model", name.strip_suffix(".gguf").unwrap_or(&name));
        y += 10;
        for row in rows(run) {
            bars(&mut body, y, row);
            y += ROW;
        }
        let load = ["/load/seconds/median", "/load/peer/seconds/median"]
            .map(|at| run.pointer(at).and_then(Value::as_f64));
        if let [Some(ours), Some(peer)] = load {
            let line = format!("load to first token: {} s; llama.cpp {} s", figure(ours), figure(peer));
            y += 16;
            put(&mut body, 16, y, "quiet", &line);
        }
    }
    let peer = runs.iter().map(|run| text(&run["peer"]["version"])).find(|version| !version.is_empty());
    if let Some(version) = peer {
        y += LINE;
        put(
            &mut body,
            16,
            y,
            "quiet",
            &format!("llama.cpp: {version}, measured in turns in the same run; medians"),
        );
    }
    let height = y + 18;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>Speed of sampan and llama.cpp</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

fn legend(body: &mut String, y: usize) {
    for (x, class, what) in
        [(16, "ours", "sampan"), (98, "peer", "llama.cpp"), (190, "limit", "the limit, measured beside it")]
    {
        rect(body, class, x, y - 10, 12);
        put(body, x + 18, y, "", what);
    }
}

/// One row: the limit as a track, our bar and the peer's on it, the figures at its end.
fn bars(body: &mut String, y: usize, row: &Value) {
    let limit = row["limit_tokens_per_s"].as_f64().filter(|&limit| limit > 0.0);
    let ours = row["tokens_per_s"]["median"].as_f64();
    let peer = row["peer"]["tokens_per_s"]["median"].as_f64();
    // Without a limit the faster one is as long as the track.
    let whole = limit.unwrap_or_else(|| ours.unwrap_or(0.0).max(peer.unwrap_or(0.0)).max(1e-9));
    put(body, 16, y + 16, "", &text(&row["what"]));
    for (i, (class, speed)) in [("ours", ours), ("peer", peer)].into_iter().enumerate() {
        let Some(speed) = speed else { continue };
        let top = y + i * (BAR + 2);
        rect(body, "limit", LEFT, top, TRACK);
        rect(body, class, LEFT, top, (TRACK as f64 * (speed / whole).clamp(0.0, 1.0)).round() as usize);
        put(body, LEFT + TRACK + 62, top + 10, if i == 0 { "end" } else { "end quiet" }, &figure(speed));
    }
    let share = row["share_of_limit"].as_f64().map(|share| format!("{:.0} % of the limit", 100.0 * share));
    let ratio = row["ratio"].as_f64().map(|ratio| format!("{} x", figure(ratio)));
    put(body, LEFT + TRACK + 74, y + 10, "", &share.unwrap_or_default());
    put(body, LEFT + TRACK + 74, y + 25, "model", &ratio.unwrap_or_default());
}

fn rect(body: &mut String, class: &str, x: usize, y: usize, width: usize) {
    let _ = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" rx=\"2\"/>"
    );
}

fn put(body: &mut String, x: usize, y: usize, class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(body, "<text{class} x=\"{x}\" y=\"{y}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    /// The widths of the bars of a class, the legend's first.
    fn widths(picture: &str, class: &str) -> Vec<usize> {
        let bars = picture.lines().filter(|line| line.contains(&format!("<rect class=\"{class}\"")));
        let width = |line: &str| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
        bars.map(|line| width(line).unwrap()).collect()
    }

    #[test]
    fn bars_are_shares_of_the_limit_and_never_longer() {
        let picture = svg(&sample());
        assert_eq!(widths(&picture, "ours"), [12, TRACK / 2, TRACK]);
        assert_eq!(widths(&picture, "peer"), [12, TRACK / 8, TRACK * 4 / 5]);
        for part in
            ["50 % of the limit", ">4.00 x<", ">800<", ">200<", "prompt 512", "0.50 s; llama.cpp 1.00 s"]
        {
            assert!(picture.contains(part), "no {part:?} in\n{picture}");
        }
    }

    #[test]
    fn names_cannot_break_the_picture_and_it_needs_nothing_from_elsewhere() {
        let picture = svg(&sample());
        assert!(picture.contains("&lt;small&gt;") && !picture.contains("<small>"));
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
        assert!(!picture.replace("http://www.w3.org/2000/svg", "").contains("http"));
        assert!(picture.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn a_run_without_a_peer_or_limits_is_drawn_too() {
        let mut record = sample();
        let run = &mut record["runs"][0];
        run["peer"].take();
        for row in run["rows"].as_array_mut().unwrap() {
            row.as_object_mut().unwrap().retain(|key, _| key == "what" || key == "tokens_per_s");
        }
        let picture = svg(&record);
        assert_eq!(widths(&picture, "ours"), [12, TRACK, TRACK]);
        assert_eq!(widths(&picture, "peer"), [12]);
    }

    #[test]
    fn only_a_record_is_drawn() {
        assert!(run("no/such/file.json").unwrap_err().contains("no/such/file.json"));
        let manifest = crate::tidy::root().join("Cargo.toml");
        assert!(run(manifest.to_str().unwrap()).unwrap_err().contains("not JSON"));
    }
}
