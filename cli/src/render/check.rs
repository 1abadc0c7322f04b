//! Checks of a version, of the home, and collections of what nobody needs.

use lode_node::command::{Checked, Finding, Outcome};

use super::Text;
use crate::style::{Style, clean};
use crate::units::{plural, size};

pub(super) fn checked(checked: &Checked, style: Style) -> Text {
    let mut result = findings(&checked.findings, style);
    let verdict = match count(&checked.findings, "corrupt") {
        0 => style.green("sound"),
        n => style.red(&format!("{n} corrupt")),
    };
    let missing = match checked.missing {
        0 => String::new(),
        n => format!(
            "; {} not held, `lode pull` fetches them",
            plural(n, "chunk")
        ),
    };
    result.push_str(&format!(
        "{verdict}: {}, {} checked{missing}\n",
        plural(checked.chunks, "chunk"),
        size(checked.bytes)
    ));
    Text::result(result)
}

pub(super) fn doctor(all: &[Finding], style: Style) -> Text {
    let mut result = findings(all, style);
    let verdict = match (count(all, "corrupt"), count(all, "warning")) {
        (0, 0) => style.green("the home is in order"),
        (0, n) => style.yellow(&plural(n, "warning")),
        (n, _) => style.red(&format!("{n} corrupt; `lode scrub` says what is affected")),
    };
    result.push_str(&format!("{verdict}\n"));
    Text::result(result)
}

pub(super) fn collected(outcome: &Outcome) -> String {
    let Outcome::Collected {
        chunks,
        bytes,
        containers,
        dry_run,
    } = outcome
    else {
        return String::new();
    };
    let (verb, whole) = if *dry_run {
        ("would free", "would go")
    } else {
        ("freed", "went")
    };
    format!(
        "{verb} {}: {}; {} {whole} as a whole\n",
        size(*bytes),
        plural(*chunks, "chunk"),
        plural(*containers, "container")
    )
}

fn count(findings: &[Finding], level: &str) -> u64 {
    findings
        .iter()
        .filter(|finding| finding.level == level)
        .count() as u64
}

fn findings(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = clean(&finding.level);
        let level = match level.as_str() {
            "ok" => style.green("ok:"),
            "corrupt" => style.red("corrupt:"),
            _ => style.yellow(&format!("{level}:")),
        };
        text.push_str(&format!("{level} {}\n", super::lines(&finding.text)));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!(
                "    {} {}\n",
                style.dim("hint:"),
                super::lines(advice)
            ));
        }
    }
    text
}
