//! The forward pass of a ViT on a tape; see `model.rs`.

use san_core::memory::layers::Layers;
use san_core::memory::tape::Value;
use san_core::spec::model::NormSpec;

use crate::vision::vit::{Config, MlpLayer, Pool};

impl Config {
    /// The features of images `[K * batch, 3, size, size]`.
    pub(super) fn trace(&self, layers: &Layers, images: &Value) -> Value {
        let dim = self.embed_dim;
        let batch = images.elements / (3 * self.img_size.pow(2));
        let without_prompts = self.positions() - self.embedded_prefix() + self.prefix();
        let patches = layers.forward(&self.patch_embed(), images);
        let tokens = layers.copied(&patches, batch * without_prompts * dim);
        let tokens = layers.shifted(&tokens, layers.gradient_of("pos_embed", self.positions() * dim));
        let tokens = if self.pre_norm { layers.norm(&norm("norm_pre", dim), &tokens) } else { tokens };
        let only_first = self.global_pool == Pool::Token;
        let last = (0..self.depth).fold(tokens, |x, index| {
            let first = (only_first && index + 1 == self.depth).then_some(1);
            self.trace_block(layers, index, x, [batch, without_prompts], first)
        });
        let last_norm = norm(self.last_norm(), dim);
        match self.global_pool {
            Pool::Token => layers.norm(&last_norm, &last),
            Pool::Avg if self.normalises_pooled() => {
                layers.norm(&last_norm, &layers.copied(&last, batch * dim))
            }
            Pool::Avg => layers.copied(&layers.norm(&last_norm, &last), batch * dim),
        }
    }

    fn trace_block(
        &self,
        layers: &Layers,
        index: i64,
        x: Value,
        [batch, tokens]: [i64; 2],
        first: Option<i64>,
    ) -> Value {
        let dim = self.embed_dim;
        let [qkv, proj, fc1, fc2] = self.block_sites(index);
        let path = |what: &str| format!("blocks.{index}.{what}");
        let layer_scale = |y: Value, what: &str| match self.init_values {
            Some(_) => layers.scaled_by(&y, &path(&format!("{what}.gamma"))),
            None => y,
        };
        let x = layers.with_prompts(&format!("blocks.{index}"), x, batch, tokens, dim);
        let heads = {
            let qkv = layers.norm_then(&norm(&path("norm1"), dim), &x, &[&qkv]).remove(0);
            let tokens = x.elements / dim / batch;
            layers.self_attention(&qkv, [batch, tokens, first.unwrap_or(tokens)], self.num_heads)
        };
        let x = first.map_or(x.clone(), |first| layers.copied(&x, batch * first * dim));
        let y = layer_scale(layers.forward(&proj, &heads), "ls1");
        let x = layers.branch(&path("attn"), &x, y);
        let hidden = layers.norm_then(&norm(&path("norm2"), dim), &x, &[&fc1]).remove(0);
        let hidden = match self.mlp_layer {
            MlpLayer::Mlp => self.act_layer.trace(layers, &hidden),
            MlpLayer::SwigluPacked => {
                let halves = layers.tape.split(&hidden, 2);
                layers.multiply(&layers.function(&halves[0]), &halves[1])
            }
        };
        let y = layer_scale(layers.forward(&fc2, &hidden), "ls2");
        layers.branch(&path("mlp"), &x, y)
    }
}

fn norm(name: &str, width: i64) -> NormSpec {
    NormSpec { name: name.into(), width, bias: true }
}
