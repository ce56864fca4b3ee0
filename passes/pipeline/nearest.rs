//! "Did you mean".

/// The candidate that is nearest to `word`, if any is near: at most a third of the letters differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|c| (distance(word, c), c));
    let (distance, best) = scored.min()?;
    (distance * 3 <= word.chars().count().max(3)).then_some(best)
}

/// Letters to insert, delete or replace to turn one word into the other.
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(nearest("rato", ["ratio", "layer"]), Some("ratio"));
        assert_eq!(nearest("zap", ["ratio", "layer"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
