//! `tapster rules`: the rules for Prometheus with numbers, selectors and links of a site.

use super::{print, stop::Stop};
use crate::{
    rules::{self, RulesFormat, Settings, Wrong},
    table::table,
};
use clap::{Args, ValueEnum};

/// What follows the flags in `--help`.
pub(super) const AFTER_HELP: &str = "\
Two copies with different selectors and thresholds can be loaded in one ruler that sees several clusters:

  tapster rules --selector 'cluster=\"a\"' --cluster-label cluster >a.yaml
  tapster rules --selector 'cluster=\"b\"' --cluster-label cluster --set raid_slow_excess_seconds=0.005 >b.yaml";

/// Where rules go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum As {
    /// A file for Prometheus, Thanos Ruler, Mimir or vmalert
    Prometheus,
    /// An object for the Prometheus Operator
    Operator,
}

/// Flags of `rules`.
#[derive(Args, Debug)]
pub struct RulesArgs {
    /// Another value for a threshold; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Only series with these labels, as between the braces of a query: `cluster="a"`
    #[arg(long, value_name = "MATCHERS", default_value = "", hide_default_value = true)]
    pub selector: String,
    /// The label that names a cluster, where one ruler sees several: alerts for many hosts are then one for each cluster
    #[arg(long, value_name = "LABEL", default_value = "", hide_default_value = true)]
    pub cluster_label: String,
    /// Where docs/alerts.md can be read: each alert then has a link to its section, `runbook_url`
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub runbook_url: String,
    /// Jobs that are tapster's, a regular expression: their targets are missed even if they were never up [default: tapster]
    #[arg(long, value_name = "REGEX", default_value = "", hide_default_value = true)]
    pub job: String,
    /// Nodes that should have a tapster, an expression with their names in the label `node`, for the group tapster-nodes
    /// [default: `kube_node_info`]
    #[arg(long, value_name = "PROMQL", default_value = "", hide_default_value = true)]
    pub nodes: String,
    /// Read classic histograms only, for what does not know `histogram_count()` and the like, such as vmalert
    #[arg(long)]
    pub classic_histograms: bool,
    /// Only this group; may be given several times [default: all but tapster-block-median,
    /// tapster-block-peers, tapster-nodes and tapster-slo]
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
    /// What is printed
    #[arg(long, value_enum, default_value = "prometheus")]
    pub format: As,
    /// The name of the object for the operator
    #[arg(long, value_name = "NAME", default_value = "tapster", value_parser = object)]
    pub name: String,
    /// Show the thresholds with their defaults instead
    #[arg(long)]
    pub list: bool,
}

/// Reads the name of an object of Kubernetes.
fn object(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.chars().all(is_plain) && !text.starts_with('-') && !text.ends_with('-') && text.len() <= 63 {
        Ok(text.to_owned())
    } else {
        Err("it may have lower-case letters, digits and `-`, 63 at most".into())
    }
}

fn settings(args: &RulesArgs) -> Result<Settings, Wrong> {
    let mut settings = Settings::default();
    for set in &args.set {
        settings.set(set)?;
    }
    settings.set_selector(&args.selector)?;
    settings.set_cluster(&args.cluster_label)?;
    settings.set_runbook_url(&args.runbook_url)?;
    settings.set_job(&args.job)?;
    settings.set_nodes(&args.nodes)?;
    settings.set_classic(args.classic_histograms);
    for group in &args.group {
        settings.ask_for(group)?;
    }
    Ok(settings)
}

pub(super) fn rules(args: &RulesArgs) -> Result<u8, Stop> {
    let settings = settings(args).map_err(Stop::usage)?;
    if args.list {
        let rows: Vec<[String; 4]> = rules::thresholds()
            .into_iter()
            .map(|one| {
                let value = settings.threshold(&one.name).unwrap_or(&one.default).to_owned();
                [one.name, value, one.unit, one.help]
            })
            .collect();
        print(&table(&rows, &[false, true, false, false]))?;
        return Ok(0);
    }
    let format = match args.format {
        As::Prometheus => RulesFormat::Prometheus,
        As::Operator => RulesFormat::Operator,
    };
    print(&rules::all(&settings, format, &args.name))?;
    Ok(0)
}
