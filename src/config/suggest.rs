//! The right spelling nearest to a wrong one.

use super::schema::{Entry, Table};

/// The candidate nearest to `wrong`, if any is near.
pub(super) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.into_iter().filter_map(|right| Some((distance(wrong, right)?, right)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, right)| right)
}

/// The key nearest to the unknown one at `path`, in the same table or anywhere in `tree`.
pub(super) fn key(tree: &Table, path: &[String]) -> Option<Vec<String>> {
    let (wrong, parent) = path.split_last()?;
    let mut candidates = Vec::new();
    let siblings = match tree.find(parent) {
        Some(Entry::Table(table)) => Some(table),
        // The names in a table of tables are free; an unknown key is in one of its tables.
        _ => match tree.find(parent.split_last().map_or(&[], |(_, above)| above)) {
            Some(Entry::Tables { each, .. }) => Some(each),
            _ => None,
        },
    };
    if let Some(table) = siblings {
        collect(table, parent.to_vec(), &mut candidates);
    }
    collect(tree, Vec::new(), &mut candidates);
    let score = |candidate: &Vec<String>| {
        let by_name = candidate.last().and_then(|right| distance(wrong, right));
        // `server_listen` is `server.listen` with the wrong separator.
        let by_path = distance(&path.join("_"), &candidate.join("_"));
        let nearest = by_name.into_iter().chain(by_path).min()?;
        Some((nearest, !candidate.starts_with(parent), candidate.len()))
    };
    let near = candidates.into_iter().filter_map(|candidate| Some((score(&candidate)?, candidate)));
    near.min_by_key(|(score, _)| *score).map(|(_, candidate)| candidate)
}

fn collect(table: &Table, prefix: Vec<String>, into: &mut Vec<Vec<String>>) {
    for (name, entry) in &table.entries {
        let mut path = prefix.clone();
        path.push(name.clone());
        into.push(path.clone());
        if let Entry::Table(inner) = entry {
            collect(inner, path, into);
        }
    }
}

/// Edits between the two, `None` when they are too many to be a slip.
fn distance(wrong: &str, right: &str) -> Option<usize> {
    let edits = strsim::damerau_levenshtein(&wrong.to_lowercase(), &right.to_lowercase());
    (edits <= (right.chars().count() / 3).max(1)).then_some(edits)
}
