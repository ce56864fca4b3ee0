//! Names that the user may have meant.

use crate::passes::pipeline::distance;

/// How many are offered.
const OFFERED: usize = 3;
/// Names compared at the utmost; beyond, the search would be felt.
const COMPARED: usize = 20_000;
/// Letters of a name that are compared; the effort grows with their square.
const LETTERS: usize = 200;

/// ` (did you mean 'a' or 'b'?)`; empty where nothing is near.
pub fn did_you_mean(name: &str, candidates: &[String]) -> String {
    match &nearest(name, candidates)[..] {
        [] => String::new(),
        names => {
            let quoted: Vec<String> = names.iter().map(|n| format!("'{n}'")).collect();
            format!(" (did you mean {}?)", quoted.join(" or "))
        }
    }
}

/// The nearest candidates, best first, equals in their own order.
pub fn nearest<'a>(name: &str, candidates: &'a [String]) -> Vec<&'a str> {
    let plain = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let wanted = plain(name);
    let mut found: Vec<(usize, &str)> = Vec::new();
    for candidate in candidates.iter().take(COMPARED) {
        let have = plain(candidate);
        if have.is_empty() || wanted.is_empty() || found.iter().any(|f| f.1 == candidate) {
            continue;
        }
        let within = have.contains(&wanted) || (wanted.contains(&have) && have.len() > 2);
        let far = distance(&wanted[..wanted.len().min(LETTERS)], &have[..have.len().min(LETTERS)]);
        // A third of the letters may be wrong, or the one is part of the other.
        if within || far <= wanted.len().max(have.len()).div_ceil(3) {
            found.push((if within { 0 } else { far }, candidate));
        }
    }
    found.sort_by_key(|f| f.0);
    found.into_iter().take(OFFERED).map(|f| f.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_not() {
        let names = ["conv1", "conv2", "classifier", "layer1.0.conv1"].map(str::to_owned);
        assert_eq!(nearest("cnov1", &names), ["conv1"]);
        assert_eq!(nearest("conv1*", &names), ["conv1", "layer1.0.conv1", "conv2"]);
        assert!(nearest("attention", &names).is_empty());
        assert_eq!(did_you_mean("clasifier", &names), " (did you mean 'classifier'?)");
    }
}
