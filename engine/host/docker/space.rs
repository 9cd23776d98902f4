//! Images, and the space the engine uses.

use std::collections::BTreeMap;

use bollard::query_parameters::{ListImagesOptions, PruneBuildOptions, PruneImagesOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{Docker, QUICK, SLOW, failed, within};
use crate::error::Result;
use crate::host::Access;

/// An image.
#[derive(Debug, Serialize)]
pub(super) struct Image {
    id: String,
    tags: Vec<String>,
    digests: Vec<String>,
    size: i64,
    created: Option<String>,
    used_by: Vec<String>,
}

/// The space one sort of thing uses.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Used {
    count: i64,
    active: i64,
    size: i64,
    reclaimable: i64,
}

/// What went, or what could go: images without a name that no container is made of, and build cache nothing uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pruned {
    pub(super) images: u64,
    pub(super) cache: u64,
    pub(super) bytes: u64,
}

/// The space the engine uses.
#[derive(Debug, Serialize)]
pub(super) struct Space {
    images: Used,
    containers: Used,
    volumes: Used,
    build_cache: Used,
    size: i64,
    reclaimable: i64,
}

impl Docker {
    /// Every image, with the containers made of it.
    pub(super) async fn images(&self) -> Result<Vec<Image>> {
        self.ctx.permissions().check(&Access::word("docker", "images", "*"))?;
        let client = self.client().await?;
        let listed = within(QUICK, "the docker engine", async {
            client.list_images(None::<ListImagesOptions>).await.map_err(|error| failed("listing images", error))
        });
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.list().await? {
            users.entry(container.image_id).or_default().push(container.name);
        }
        let image = |image: bollard::models::ImageSummary| Image {
            used_by: users.get(&image.id).cloned().unwrap_or_default(),
            id: image.id,
            // An image that lost its name to a newer one has this for a tag.
            tags: image.repo_tags.into_iter().filter(|tag| tag != "<none>:<none>").collect(),
            digests: image.repo_digests.into_iter().filter(|digest| digest != "<none>@<none>").collect(),
            size: image.size,
            created: jiff::Timestamp::from_second(image.created).ok().map(|time| time.to_string()),
        };
        Ok(listed.await?.into_iter().map(image).collect())
    }

    /// The space the engine uses.
    pub(super) async fn disk(&self) -> Result<Space> {
        self.ctx.permissions().check(&Access::word("docker", "disk", "*"))?;
        Ok(space(&self.usage().await?))
    }

    /// What [`prune`](Self::prune) would take away.
    pub(super) async fn prunable(&self) -> Result<Pruned> {
        let used = self.usage().await?;
        Ok(Pruned { images: dangling(&used).count() as u64, cache: idle(&used).count() as u64, bytes: prunable_bytes(&used) })
    }

    /// Takes away images without a name that no container is made of, and build cache nothing uses: never a volume,
    /// a container, or an image with a name. What it counts is the difference between before and after.
    pub(super) async fn prune(&self) -> Result<Pruned> {
        let before = self.usage().await?;
        let client = self.client().await?;
        let only = BTreeMap::from([("dangling", vec!["true"])]);
        let filters = only.into_iter().map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect())).collect();
        within(SLOW, "the docker engine", async {
            let images = PruneImagesOptions { filters: Some(filters) };
            client.prune_images(Some(images)).await.map_err(|error| failed("removing dangling images", error))?;
            client.prune_build(None::<PruneBuildOptions>).await.map_err(|error| failed("removing build cache", error))
        })
        .await?;
        Ok(difference(&before, &self.usage().await?))
    }
}

/// The lists of images are named so by older engines, and lie deeper with newer ones.
fn items<'u>(usage: &'u Value, old: &str, new: &str) -> impl Iterator<Item = &'u Value> {
    let list = usage[old].as_array().or_else(|| usage[new]["Items"].as_array());
    list.into_iter().flatten()
}

/// Images that have no name and no container.
fn dangling(usage: &Value) -> impl Iterator<Item = &Value> {
    items(usage, "Images", "ImageUsage").filter(|image| {
        let has_name = image["RepoTags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag != "<none>:<none>"));
        !has_name && image["Containers"].as_i64().unwrap_or(0) <= 0
    })
}

/// Build cache that nothing uses.
fn idle(usage: &Value) -> impl Iterator<Item = &Value> {
    items(usage, "BuildCache", "BuildCacheUsage").filter(|entry| !entry["InUse"].as_bool().unwrap_or(false))
}

/// What would come free at most: layers may be shared with images that stay.
fn prunable_bytes(usage: &Value) -> u64 {
    let own = |item: &Value| item["Size"].as_i64().unwrap_or(0) - item["SharedSize"].as_i64().unwrap_or(0).max(0);
    let images: i64 = dangling(usage).map(own).sum();
    let cache: i64 = idle(usage).map(|entry| entry["Size"].as_i64().unwrap_or(0)).sum();
    u64::try_from(images + cache).unwrap_or(0)
}

fn difference(before: &Value, after: &Value) -> Pruned {
    let less = |before: i64, after: i64| u64::try_from(before - after).unwrap_or(0);
    let [was, is] = [space(before), space(after)];
    Pruned {
        images: less(was.images.count, is.images.count),
        cache: less(was.build_cache.count, is.build_cache.count),
        bytes: less(was.images.size + was.build_cache.size, is.images.size + is.build_cache.size),
    }
}

/// Engines up to API 1.51 list the things themselves; newer ones add them up.
fn space(usage: &Value) -> Space {
    let newer = |name: &str, old: fn(&Value) -> Used| usage.get(name).filter(|sum| sum.is_object()).map_or_else(|| old(usage), summed);
    let images = newer("ImageUsage", images);
    let containers = newer("ContainerUsage", containers);
    let volumes = newer("VolumeUsage", volumes);
    let build_cache = newer("BuildCacheUsage", build_cache);
    let all = [&images, &containers, &volumes, &build_cache];
    let (size, reclaimable) = (all.iter().map(|used| used.size).sum(), all.iter().map(|used| used.reclaimable).sum());
    Space { images, containers, volumes, build_cache, size, reclaimable }
}

fn summed(sum: &Value) -> Used {
    let number = |name: &str| sum[name].as_i64().unwrap_or(0);
    Used { count: number("TotalCount"), active: number("ActiveCount"), size: number("TotalSize"), reclaimable: number("Reclaimable") }
}

/// Adds up a list as `docker system df` does.
fn add_up(list: &Value, active: impl Fn(&Value) -> bool, size: impl Fn(&Value) -> i64) -> Used {
    let mut used = Used::default();
    for item in list.as_array().into_iter().flatten() {
        // -1 stands for a size that is not known.
        let size = size(item).max(0);
        used.count += 1;
        used.size += size;
        if active(item) {
            used.active += 1;
        } else {
            used.reclaimable += size;
        }
    }
    used
}

fn images(usage: &Value) -> Used {
    let own = |image: &Value| image["Size"].as_i64().unwrap_or(0) - image["SharedSize"].as_i64().unwrap_or(0).max(0);
    let in_use = |image: &Value| image["Containers"].as_i64().unwrap_or(0) != 0;
    let mut used = add_up(&usage["Images"], in_use, own);
    // Layers are shared between images, so the sum of the images is not what is used.
    let taken: i64 = usage["Images"].as_array().into_iter().flatten().filter(|image| in_use(image)).map(own).sum();
    used.size = usage["LayersSize"].as_i64().unwrap_or(used.size);
    used.reclaimable = (used.size - taken).max(0);
    used
}

fn containers(usage: &Value) -> Used {
    let active = |container: &Value| matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"));
    add_up(&usage["Containers"], active, |container| container["SizeRw"].as_i64().unwrap_or(0))
}

fn volumes(usage: &Value) -> Used {
    let active = |volume: &Value| volume["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0;
    add_up(&usage["Volumes"], active, |volume| volume["UsageData"]["Size"].as_i64().unwrap_or(0))
}

fn build_cache(usage: &Value) -> Used {
    let active = |entry: &Value| entry["InUse"].as_bool().unwrap_or(false);
    let own = |entry: &Value| if entry["Shared"].as_bool().unwrap_or(false) { 0 } else { entry["Size"].as_i64().unwrap_or(0) };
    add_up(&usage["BuildCache"], active, own)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_has_no_name_and_no_use_goes() {
        let usage = json!({
            "LayersSize": 1500,
            "Images": [
                { "RepoTags": ["shop:1"], "Size": 600, "SharedSize": 100, "Containers": 0 },
                { "RepoTags": ["<none>:<none>"], "Size": 400, "SharedSize": 100, "Containers": 0 },
                { "RepoTags": null, "Size": 300, "SharedSize": 0, "Containers": 1 },
            ],
            "BuildCache": [{ "InUse": true, "Size": 70 }, { "InUse": false, "Size": 50 }],
        });
        assert_eq!((dangling(&usage).count(), idle(&usage).count(), prunable_bytes(&usage)), (1, 1, 350));
        let after = json!({
            "LayersSize": 1200,
            "Images": [{ "Size": 600, "Containers": 0 }, { "Size": 300, "Containers": 1 }],
            "BuildCache": [{ "InUse": true, "Size": 70 }],
        });
        assert_eq!(difference(&usage, &after), Pruned { images: 1, cache: 1, bytes: 350 });
    }

    #[test]
    fn older_and_newer_engines_tell_the_same() {
        let older = json!({
            "LayersSize": 1000,
            "Images": [{ "Size": 600, "SharedSize": 0, "Containers": 1 }, { "Size": 400, "SharedSize": 0, "Containers": 0 }],
            "Containers": [{ "State": "running", "SizeRw": 5 }, { "State": "exited", "SizeRw": 7 }],
            "Volumes": [{ "UsageData": { "Size": 50, "RefCount": 0 } }],
            "BuildCache": null,
        });
        let newer = json!({
            "ImageUsage": { "TotalCount": 2, "ActiveCount": 1, "TotalSize": 1000, "Reclaimable": 400 },
            "ContainerUsage": { "TotalCount": 2, "ActiveCount": 1, "TotalSize": 12, "Reclaimable": 7 },
            "VolumeUsage": { "TotalCount": 1, "ActiveCount": 0, "TotalSize": 50, "Reclaimable": 50 },
        });
        let [older, newer] = [space(&older), space(&newer)];
        assert_eq!(older.images, Used { count: 2, active: 1, size: 1000, reclaimable: 400 });
        assert_eq!((&older.images, &older.containers, &older.volumes), (&newer.images, &newer.containers, &newer.volumes));
        assert_eq!((older.size, older.reclaimable), (1062, 457));
    }
}
