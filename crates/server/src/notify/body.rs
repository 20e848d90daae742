//! A message in the form of its receiver: an object of Layersift's own, a text for Slack, or a CloudEvent.
//!
//! Names come from whoever pushed the image. They are without characters that change how they are displayed
//! (`message`), and in Slack's form nothing in them is a mention, a link or a format.

use layersift_model::{ParseError, json_output};
use serde::Serialize;

use super::{Message, ToldFinding};
use crate::settings::NotifyFormat;

/// Findings that a text names: it is read in a channel.
const MOST_LINES: usize = 10;

/// Bytes of a name in a text.
const MOST_NAME: usize = 300;

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Serialize)]
struct Own<'m> {
    kind: &'static str,
    id: &'m str,
    #[serde(flatten)]
    message: &'m Message,
}

#[derive(Serialize)]
struct CloudEvent<'m> {
    specversion: &'static str,
    id: &'m str,
    source: &'static str,
    r#type: &'static str,
    subject: &'m str,
    time: &'m str,
    datacontenttype: &'static str,
    data: &'m Message,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

/// The body of a message, which receivers know by `delivery`.
///
/// # Errors
/// Never for a message that was read from JSON.
pub(crate) fn body(format: NotifyFormat, delivery: &str, message: &Message) -> Result<Body, ParseError> {
    let (media_type, bytes) = match format {
        NotifyFormat::Json => {
            let own = Own { kind: "new-findings", id: delivery, message };
            ("application/json", json_output::line(&own)?)
        }
        NotifyFormat::Slack => ("application/json", json_output::line(&Text { text: text(message) })?),
        NotifyFormat::CloudEvents => {
            let event = CloudEvent {
                specversion: "1.0",
                id: delivery,
                source: "layersift",
                r#type: "layersift.findings.new",
                subject: &message.image,
                time: &message.scanned_at,
                datacontenttype: "application/json",
                data: message,
            };
            ("application/cloudevents+json", json_output::line(&event)?)
        }
    };
    Ok(Body { media_type, bytes })
}

fn text(message: &Message) -> String {
    let noun = if message.findings_total == 1 { "finding" } else { "findings" };
    let mut lines = vec![format!("{} new {noun} in {}", message.findings_total, code(&message.image))];
    lines.extend(message.findings.iter().take(MOST_LINES).map(line));
    let named = message.findings.len().min(MOST_LINES);
    match message.findings_total.saturating_sub(named) {
        0 => {}
        more => lines.push(format!("and {more} more")),
    }
    lines.join("\n")
}

fn line(finding: &ToldFinding) -> String {
    let mut line = format!("• {}: {}", finding.severity.name(), escaped(&cut(&finding.title)));
    if let Some(masked) = &finding.masked {
        line.push_str(&format!(" {}", code(masked)));
    }
    if let Some(place) = finding.path.as_ref().or(finding.field.as_ref()) {
        line.push_str(&format!(" in {}", code(place)));
    }
    if let Some(layer) = finding.layer {
        line.push_str(&format!(", layer {layer}"));
    }
    if let Some(state) = finding.state.as_deref().filter(|state| *state != "present") {
        line.push_str(&format!(" ({})", escaped(state)));
    }
    if finding.times_seen > 1 {
        line.push_str(&format!(", {} times", finding.times_seen));
    }
    line
}

fn cut(text: &str) -> String {
    crate::admission::tidy(text, MOST_NAME)
}

/// A name, in which Slack finds no mention, link or format.
fn code(name: &str) -> String {
    format!("`{}`", escaped(&cut(name).replace('`', "'")))
}

/// The three characters that Slack reads.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use layersift_model::Severity;
    use serde_json::{Value, json};

    fn digest() -> String {
        format!("sha256:{}", "ab".repeat(32))
    }

    fn finding() -> ToldFinding {
        ToldFinding {
            fingerprint: Some("0123456789abcdef0123456789abcdef".into()),
            rule: "gitlab.personal-access-token".into(),
            title: "GitLab personal access token".into(),
            severity: Severity::Critical,
            masked: Some("glpat-****".into()),
            path: Some("app/.env".into()),
            field: None,
            layer: Some(3),
            layer_digest: Some(digest().parse().unwrap()),
            state: Some("deleted".into()),
            times_seen: 2,
            platform: None,
        }
    }

    fn message(findings: Vec<ToldFinding>, findings_total: usize) -> Message {
        Message {
            image: format!("registry.example/team/app@{}", digest()),
            digest: digest().parse().unwrap(),
            scanned_at: "2026-11-28T20:59:05Z".into(),
            findings_total,
            findings,
        }
    }

    fn of(format: NotifyFormat, message: &Message) -> (Value, &'static str) {
        let Body { media_type, bytes } = body(format, "made-up-id", message).unwrap();
        (serde_json::from_slice(&bytes).unwrap(), media_type)
    }

    #[test]
    fn each_form_says_the_same() {
        let message = message(vec![finding()], 1);
        let (own, _) = of(NotifyFormat::Json, &message);
        assert_eq!((&own["kind"], &own["id"]), (&json!("new-findings"), &json!("made-up-id")));
        assert_eq!(own["findings"][0]["severity"], "critical");
        let (event, media_type) = of(NotifyFormat::CloudEvents, &message);
        assert_eq!(media_type, "application/cloudevents+json");
        assert_eq!((&event["specversion"], &event["id"]), (&json!("1.0"), &json!("made-up-id")));
        assert_eq!(event["data"]["findings"], own["findings"]);
        let (slack, _) = of(NotifyFormat::Slack, &message);
        let expected = format!(
            "1 new finding in `{}`\n• critical: GitLab personal access token `glpat-****` in `app/.env`, layer 3 \
             (deleted), 2 times",
            message.image
        );
        assert_eq!(slack, json!({ "text": expected }));
    }

    #[test]
    fn a_name_is_no_mention_and_no_link() {
        let hostile = "<!channel> `<https://evil.example|safe>` & *bold*";
        let hostile = ToldFinding { path: Some(hostile.into()), title: "<@U0>".into(), ..finding() };
        let (slack, _) = of(NotifyFormat::Slack, &message(vec![hostile; 12], 30));
        let text = slack["text"].as_str().unwrap();
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
        assert!(text.contains("`&lt;!channel&gt; '&lt;https://evil.example|safe&gt;' &amp; *bold*`"), "{text}");
        assert!(text.ends_with("\nand 20 more") && text.lines().count() == 12, "{text}");
    }
}
