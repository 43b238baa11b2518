//! What was measured, against the bars, for people and for programs.

use serde::Serialize;

/// All figures of a run.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// One figure.
#[derive(Clone, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) name: String,
    /// The unit of all values.
    pub(crate) unit: &'static str,
    /// What nilas needs.
    pub(crate) nilas: f64,
    /// What others need, by name.
    pub(crate) others: Vec<(&'static str, f64)>,
    /// A ratio of nilas to others. It is compared with the bar, unless the bar is for the figure itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// Whether the bar is for the figure itself, although there is a ratio.
    #[serde(skip)]
    pub(crate) absolute: bool,
    /// What is to be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bar: Option<Bar>,
}

/// What a figure is to reach.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, nilas: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            nilas,
            others: Vec::new(),
            ratio: None,
            absolute: false,
            bar: None,
        }
    }

    pub(crate) fn beside(mut self, name: &'static str, value: f64) -> Self {
        self.others.push((name, value));
        self
    }

    /// The ratio to the first of the others, beside a bar for the figure itself.
    pub(crate) fn ratio_to_first(mut self) -> Self {
        self.ratio = self.others.first().map(|(_, other)| self.nilas / other);
        self.absolute = true;
        self
    }

    pub(crate) const fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(ratio);
        self
    }

    pub(crate) const fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    fn reached(&self) -> Option<bool> {
        let value = self.ratio.filter(|_| !self.absolute).unwrap_or(self.nilas);
        self.bar.map(|bar| match bar {
            Bar::AtMost(most) => value <= most,
            Bar::AtLeast(least) => value >= least,
        })
    }
}

impl Report {
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Something a reader of the figures has to know.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn all_reached(&self) -> bool {
        self.figures
            .iter()
            .all(|figure| figure.reached() != Some(false))
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            let figures: Vec<_> = self
                .figures
                .iter()
                .map(|figure| {
                    let mut value = serde_json::json!(figure);
                    let others: serde_json::Map<_, _> = figure
                        .others
                        .iter()
                        .map(|(name, value)| ((*name).into(), (*value).into()))
                        .collect();
                    value["others"] = others.into();
                    if let Some(reached) = figure.reached() {
                        value["ok"] = reached.into();
                    }
                    value
                })
                .collect();
            let report = serde_json::json!({
                "schema": "nilas.bench/1",
                "ok": self.all_reached(),
                "figures": figures,
                "notes": self.notes,
            });
            println!("{report}");
            return;
        }
        println!(
            "{:<52} {:>12}  {:<34} {:>7}  bar",
            "", "nilas", "others", "ratio"
        );
        for figure in &self.figures {
            let others: Vec<_> = figure
                .others
                .iter()
                .map(|(name, value)| format!("{name} {}", number(*value)))
                .collect();
            let ratio = figure
                .ratio
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default();
            let bar = match (figure.bar, figure.reached()) {
                (Some(Bar::AtMost(most)), Some(reached)) => {
                    format!("at most {most}: {}", verdict(reached))
                }
                (Some(Bar::AtLeast(least)), Some(reached)) => {
                    format!("at least {least}: {}", verdict(reached))
                }
                _ => String::new(),
            };
            let nilas = format!("{} {}", number(figure.nilas), figure.unit);
            println!(
                "{:<52} {nilas:>12}  {:<34} {ratio:>7}  {bar}",
                figure.name,
                others.join(", ")
            );
        }
        for note in &self.notes {
            println!("\n{note}");
        }
    }
}

const fn verdict(reached: bool) -> &'static str {
    if reached { "OK" } else { "MISS" }
}

/// As many digits as are worth reading.
fn number(value: f64) -> String {
    if value >= 1_000.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}
