//! Amounts as Kubernetes writes them: `500m`, `1.5`, `128Mi`, `2e3`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const BINARY: [(&str, f64); 6] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];
const DECIMAL: [(&str, f64); 9] =
    [("n", 1e-9), ("u", 1e-6), ("m", 1e-3), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15), ("E", 1e18)];

/// The number an amount means; nothing when it is none.
pub(super) fn number(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    let scaled = |suffix: &str, factor: f64| Some(text.strip_suffix(suffix)?.parse::<f64>().ok()? * factor);
    // `2E` is two exa, `2e3` and `2E3` are two thousand: as a number it ends with a digit.
    let plain = text.parse::<f64>().ok().filter(|number| number.is_finite());
    plain.or_else(|| BINARY.into_iter().chain(DECIMAL).find_map(|(suffix, factor)| scaled(suffix, factor)))
}

/// What the containers of a pod ask for, or may use, of each resource. One that says nothing leaves the sum unknown.
pub(super) fn sum(pod: &PodSpec, part: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Quantity>>, resource: &str) -> Option<f64> {
    pod.containers.iter().map(|container| number(part(container.resources.as_ref()?)?.get(resource)?)).sum()
}

/// What is asked for.
pub(super) fn requests(resources: &ResourceRequirements) -> Option<&BTreeMap<String, Quantity>> {
    // What is only limited asks for as much.
    resources.requests.as_ref().or(resources.limits.as_ref())
}

/// What may be used.
pub(super) fn limits(resources: &ResourceRequirements) -> Option<&BTreeMap<String, Quantity>> {
    resources.limits.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_numbers() {
        for (text, wanted) in [
            ("500m", 0.5),
            ("2", 2.0),
            ("1.5", 1.5),
            ("128Mi", 134_217_728.0),
            ("1Gi", 1_073_741_824.0),
            ("1G", 1e9),
            ("12345n", 0.000_012_345),
            ("2e3", 2000.0),
            ("2E", 2e18),
            ("0", 0.0),
        ] {
            let found = number(&Quantity(text.to_owned())).unwrap();
            assert!((found - wanted).abs() <= wanted * 1e-12, "{text}: {found}");
        }
        for text in ["", "much", "1Zi", "inf", "NaN"] {
            assert_eq!(number(&Quantity(text.to_owned())), None, "{text}");
        }
    }
}
