//! Text for people: emphasis on terminals, aligned tables, and nothing that could steer a terminal.

use unicode_width::UnicodeWidthStr;

/// How to write for one stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// Whether escape sequences may be used.
    pub(crate) color: bool,
}

impl Style {
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Replaces control characters and changes of writing direction: names and messages come from peers.
pub(crate) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(harmful) {
        text.chars()
            .map(|c| if harmful(c) { '\u{fffd}' } else { c })
            .collect()
    } else {
        text.to_owned()
    }
}

/// The first 10 digits of an id: enough to type again (8 are needed).
pub(crate) fn short(id: &str) -> String {
    clean(&id.chars().take(10).collect::<String>())
}

/// On which side a column is filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Rows under a header, columns two blanks apart, each as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; its cells are cleaned here.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a row has a cell for each column");
        self.rows
            .push(cells.iter().map(|cell| clean(cell)).collect());
    }

    /// Writes the table; columns whose every cell is empty are left out.
    pub(crate) fn text(&self, style: Style) -> String {
        let shown: Vec<usize> = (0..self.columns.len())
            .filter(|&i| self.rows.is_empty() || self.rows.iter().any(|row| !row[i].is_empty()))
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let widest = self
                    .rows
                    .iter()
                    .map(|row| row[i].width())
                    .max()
                    .unwrap_or(0);
                widest.max(self.columns[i].0.width())
            })
            .collect();
        let line = |cells: &dyn Fn(usize) -> String| {
            let mut line = String::new();
            for (k, &i) in shown.iter().enumerate() {
                let cell = cells(i);
                let gap = " ".repeat(widths[i].saturating_sub(cell.width()));
                if k > 0 {
                    line.push_str("  ");
                }
                match self.columns[i].1 {
                    Side::Left => line.extend([cell.as_str(), gap.as_str()]),
                    Side::Right => line.extend([gap.as_str(), cell.as_str()]),
                }
            }
            line.trim_end().to_owned()
        };
        let mut text = style.bold(&line(&|i| self.columns[i].0.to_owned()));
        text.push('\n');
        for row in &self.rows {
            text.push_str(&line(&|i| row[i].clone()));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_in_any_script_and_empty_ones_vanish() {
        let mut table = Table::new(&[
            ("NAME", Side::Left),
            ("NOTE", Side::Left),
            ("SIZE", Side::Right),
            ("X", Side::Left),
        ]);
        table.row([
            "acme/tiny".into(),
            String::new(),
            "1.0 MiB".into(),
            "a".into(),
        ]);
        table.row([
            "模型/小".into(),
            String::new(),
            "12 B".into(),
            String::new(),
        ]);
        let text = table.text(Style::default());
        assert_eq!(
            text,
            "NAME          SIZE  X\nacme/tiny  1.0 MiB  a\n模型/小       12 B\n"
        );
    }

    #[test]
    fn nothing_from_a_peer_steers_the_terminal() {
        assert_eq!(
            clean("a\x1b[2Jb\r\n\u{202e}c"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c"
        );
        assert_eq!(clean("läuft 模型"), "läuft 模型");
        assert_eq!(short("\x1b]0;x0123456789abcdef"), "\u{fffd}]0;x01234");
    }

    #[test]
    fn plain_style_adds_nothing() {
        assert_eq!(Style::default().red("x"), "x");
        assert_eq!(Style { color: true }.bold("x"), "\x1b[1mx\x1b[0m");
    }
}
