"""Every repository of the hub that the library names, in its published layout, at toy size with random weights.

The file names are the published ones, those that nobody here reads among them: who downloads a whole repository notices. What a checkpoint's shapes
do not tell its loader is as published (the widths of HPS's towers, 16 heads of V-JEPA 1); where no file of the repository says its sizes
(VideoCrafter2, Open-Sora's VAE) a `layout.json` does.
"""
import json, struct

import torch
from safetensors.torch import load_file, save_file
from transformers import (CLIPConfig, CLIPModel, T5Config, T5EncoderModel, VideoMAEConfig, VideoMAEForVideoClassification, YolosConfig,
                          YolosForObjectDetection)
from vader_nb import prompts
from vader_nb.evaluate import amt
from vader_nb.models import modelscope, opensora, svd, videocrafter2, wan
from vader_nb.models.opensora_vae import CausalConv3d
from vader_nb.rewards import action, aesthetic, clip, guards, objects, preference, sizes, viclip, vjepa

VJEPA1 = 'dl.fbaipublicfiles.com/jepa/vitl16'   # on no hub: served below /mirror


def _extra(folder, *names):
    "Files that a published repository also holds, and that nothing here may fetch"
    for name in ('README.md', '.gitattributes', *names):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text('not for this library\n')
    return folder

def _half(folder):
    "The half-precision copy of each safetensors file, under diffusers' name"
    for path in list(folder.rglob('*.safetensors')):
        save_file({k: v.half() for k, v in load_file(path).items()}, path.with_name(f'{path.stem}.fp16.safetensors'), {'format': 'pt'})

def _diffusers(folder, index, **parts):
    "A pipeline as diffusers saves it"
    for name, part in parts.items(): part.save_pretrained(folder/name)
    module = lambda p: [type(p).__module__.split('.')[0], type(p).__name__]
    (folder/'model_index.json').write_text(json.dumps(dict(_class_name=index, _diffusers_version='0.14.0', **{n: module(p) for n, p in parts.items()})))

def words(folder):
    "The toy vocabulary, in the files of a published CLIP tokenizer"
    clip.tiny_tokenizer().save_pretrained(folder)


# Base models

def write_modelscope(folder):
    pipe = modelscope.tiny_random_modelscope(scheduler=modelscope.DDIMScheduler)
    _diffusers(folder, 'TextToVideoSDPipeline', tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder, unet=pipe.denoiser, vae=pipe.vae,
               scheduler=pipe.scheduler)
    _half(folder)
    _extra(folder, 'unet/diffusion_pytorch_model.bin', 'vae/diffusion_pytorch_model.bin', 'text_encoder/pytorch_model.bin')

def write_svd(folder, frames=14):
    pipe = svd.tiny_random_svd(num_frames=frames)
    _diffusers(folder, 'StableVideoDiffusionPipeline', feature_extractor=pipe.feature_extractor, image_encoder=pipe.image_encoder,
               unet=pipe.denoiser, vae=pipe.vae, scheduler=pipe.scheduler)
    _half(folder)
    _extra(folder, 'svd.safetensors', 'svd_image_decoder.safetensors')

def write_svd_xt(folder): write_svd(folder, 25)

def write_wan(folder):
    pipe = wan.tiny_random_wan()
    _diffusers(folder, 'WanPipeline', tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder, transformer=pipe.denoiser, vae=pipe.vae,
               scheduler=pipe.scheduler)
    _extra(folder, 'assets/logo.png')

def write_stdit3(folder):
    net = opensora.random_opensora().denoiser
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder/'model.safetensors', {'format': 'pt'})
    config = {k: v for k, v in net.config.items() if not k.startswith('_')}
    (folder/'config.json').write_text(json.dumps(dict(model_type='STDiT3', architectures=['STDiT3'], **config)))
    _extra(folder)

def write_opensora_vae(folder):
    vae = opensora.random_opensora().vae
    convs = {n for n, m in vae.named_modules() if isinstance(m, CausalConv3d)}
    def name(k):
        module, _, leaf = k.rpartition('.')
        return k.replace('spatial_vae.', 'spatial_vae.module.') if 'spatial' in k else f'{module}.conv.{leaf}' if module in convs else k
    save_file({name(k): v.contiguous() for k, v in vae.state_dict().items()}, folder/'model.safetensors', {'format': 'pt'})
    (folder/'config.json').write_text(json.dumps(dict(model_type='VideoAutoencoderPipeline', micro_frame_size=17,
                                                      shift=[-.1, .34, .27, .98], scale=[3.85, 2.32, 2.33, 3.06])))
    (folder/'layout.json').write_text(json.dumps(dict(spatial=vae.config.spatial, temporal=vae.config.temporal)))
    _extra(folder)

def write_t5(folder):
    pieces = [('<pad>', 3), ('</s>', 3), ('<unk>', 2), *((w, 1) for w in ('▁', *'abcdefghijklmnopqrstuvwxyz0123456789.,:;-!?\'"()'))]
    (folder/'spiece.model').write_bytes(_sentencepiece(pieces))
    (folder/'tokenizer_config.json').write_text(json.dumps(dict(tokenizer_class='T5Tokenizer', extra_ids=0, eos_token='</s>', unk_token='<unk>',
                                                                pad_token='<pad>', model_max_length=512)))
    (folder/'special_tokens_map.json').write_text(json.dumps(dict(eos_token='</s>', unk_token='<unk>', pad_token='<pad>')))
    torch.manual_seed(0)
    net = T5EncoderModel(T5Config(vocab_size=len(pieces), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj='gated-gelu'))
    net.config.architectures = ['T5EncoderModel']
    net.config.save_pretrained(folder)
    state = net.state_dict()
    first = dict(list(state.items())[:len(state)//2])
    shards = {f'pytorch_model-0000{i}-of-00002.bin': part for i, part in ((1, first), (2, {k: v for k, v in state.items() if k not in first}))}
    for file, part in shards.items(): torch.save(part, folder/file)
    places = {k: file for file, part in shards.items() for k in part}
    (folder/'pytorch_model.bin.index.json').write_text(json.dumps(dict(metadata=dict(total_size=0), weight_map=places)))
    _extra(folder)

def _sentencepiece(pieces):
    "The bytes of a sentencepiece model (a protocol buffer) of unigrams"
    field = lambda n, raw: bytes([n << 3 | 2]) + _varint(len(raw)) + raw
    piece = lambda i, text, kind: field(1, text.encode()) + b'\x15' + struct.pack('<f', -float(i)) + b'\x18' + _varint(kind)
    ids = b''.join(_varint(n << 3) + _varint(v) for n, v in ((3, 1), (4, len(pieces)), (40, 2), (41, 2**64 - 1), (42, 1), (43, 0)))  # unk, no bos, eos, pad
    normalizer = field(1, b'identity') + b'\x18\x01\x20\x01\x28\x01'
    return b''.join(field(1, piece(i, *p)) for i, p in enumerate(pieces)) + field(2, ids) + field(3, normalizer)

def _varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])

VC2 = dict(unet=dict(model_channels=64, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(1,), num_head_channels=32, context_dim=32),
           vae=dict(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1), text=dict(width=32, heads=2, layers=3, context_length=16))

def write_videocrafter2(folder):
    torch.manual_seed(0)
    layout = VC2 | dict(text=VC2['text'] | dict(vocab_size=len(clip.tiny_tokenizer())))
    unet = videocrafter2.make_unet(**layout['unet'])
    vae = videocrafter2.AutoencoderKL(**videocrafter2.vae_config(**layout['vae']))
    backwards = lambda net, names: {_renamed(k, names): v.contiguous() for k, v in net.state_dict().items()}
    tensors = {'model.diffusion_model.' + k: v for k, v in backwards(unet, videocrafter2.unet_names(videocrafter2.unet_config(**layout['unet']))).items()}
    tensors |= {'first_stage_model.' + k: v for k, v in backwards(vae, videocrafter2.vae_names(vae.config)).items()}
    tensors |= {'cond_stage_model.model.' + k: v for k, v in _open_clip_text(**layout['text']).items()}
    torch.save(dict(state_dict=tensors | dict(betas=torch.zeros(1000), scale_arr=torch.ones(1000)), global_step=7), folder/'model.ckpt')
    (folder/'layout.json').write_text(json.dumps(layout))
    _extra(folder)

def _renamed(key, names):
    "A name of ours as the official one"
    ours = {b: a for a, b in names.items()}
    layer = key
    while layer not in ours: layer = layer.rpartition('.')[0]
    return ours[layer] + key[len(layer):]

def _open_clip_text(width, heads, layers, context_length, vocab_size):
    "Random weights of OpenCLIP's text tower"
    r = lambda *shape: .1*torch.randn(*shape)
    block = dict(ln_1=(width,), ln_2=(width,))
    state = {'positional_embedding': r(context_length, width), 'token_embedding.weight': r(vocab_size, width), 'text_projection': r(width, width),
             'logit_scale': torch.ones(()), 'ln_final.weight': torch.ones(width), 'ln_final.bias': r(width)}
    for i in range(layers):
        p = f'transformer.resblocks.{i}.'
        for ln in block: state |= {f'{p}{ln}.weight': torch.ones(width), f'{p}{ln}.bias': r(width)}
        state |= {f'{p}attn.in_proj_weight': r(3*width, width), f'{p}attn.in_proj_bias': r(3*width), f'{p}attn.out_proj.weight': r(width, width),
                  f'{p}attn.out_proj.bias': r(width), f'{p}mlp.c_fc.weight': r(4*width, width), f'{p}mlp.c_fc.bias': r(4*width),
                  f'{p}mlp.c_proj.weight': r(width, 4*width), f'{p}mlp.c_proj.bias': r(width)}
    return state


# Rewards

def _toy(name):
    "Writes the toy of a row of `sizes.PUBLISHED`"
    def write(folder):
        sizes.write_published(name, folder, toy=True)
        _extra(folder, *(['pytorch_model.bin'] if (folder/'model.safetensors').is_file() else []))
    return write

def write_openai_clip(folder):
    sizes.write_published('clip', folder, toy=True)
    words(folder)
    (folder/'preprocessor_config.json').write_text(json.dumps(dict(crop_size=32, size=32, image_mean=clip.CLIP_MEAN, image_std=clip.CLIP_STD)))
    _extra(folder, 'pytorch_model.bin', 'tf_model.h5', 'flax_model.msgpack')

def write_clip_b(folder):
    "ViT-B/32: a file of torch.save, with the buffers that old versions of transformers wrote, and no safetensors"
    write_openai_clip(folder)
    state = load_file(folder/'model.safetensors')
    places = {f'{k.removesuffix("weight").rpartition(".position_embedding")[0]}.position_ids': torch.arange(len(v))[None]
              for k, v in state.items() if k.endswith('position_embedding.weight')}
    torch.save(state | places, folder/'pytorch_model.bin')
    (folder/'model.safetensors').unlink()

def write_laion_head(folder):
    torch.manual_seed(0)
    torch.save(aesthetic.AestheticHead(24, (16, 8, 8, 4)).state_dict(), folder/aesthetic.LAION_HEAD[1])
    _extra(folder)

def write_hps(folder):
    "HPS's two files: the widths of ViT-H/14, from which the loader knows the number of heads, in a single thin layer"
    tower = dict(num_hidden_layers=1, num_attention_heads=16, intermediate_size=64, hidden_act='gelu')
    for seed, version in enumerate(preference.HPS_FILES):
        torch.manual_seed(seed)
        net = CLIPModel(CLIPConfig(projection_dim=24, vision_config=dict(tower, hidden_size=1280, image_size=32, patch_size=16), text_config=dict(
            tower, hidden_size=1024, vocab_size=len(clip.tiny_tokenizer()), max_position_embeddings=16)))
        sizes.save_hps(net, folder, version)
    _extra(folder)

def write_pickscore(folder):
    sizes.write_published('pickscore', folder, toy=True)
    _extra(folder, 'pytorch_model.bin')

def write_vit_h(folder):
    words(folder)
    _extra(folder, 'open_clip_pytorch_model.bin', 'open_clip_config.json', 'pytorch_model.bin')

def write_yolos(folder):
    "A detector with a few of COCO's classes"
    torch.manual_seed(0)
    names = dict(enumerate(('N/A', 'person', 'book', 'cup', 'dog', 'class 1')))
    net = YolosForObjectDetection(YolosConfig(**sizes._SMALL | dict(image_size=[32, 48]), num_detection_tokens=5, id2label=names))
    sizes.save_hub(net, folder, dict(size=32, max_size=1333))
    _extra(folder, 'pytorch_model.bin')

def write_videomae(folder):
    "A classifier with a few of Kinetics' classes"
    torch.manual_seed(0)
    names = dict(enumerate(dict.fromkeys((*getattr(prompts, 'KINETICS', ()), 'eating doughnuts', 'riding a bike', 'class 1'))))
    net = VideoMAEForVideoClassification(VideoMAEConfig(**sizes._SMALL, num_frames=4, use_mean_pooling=True, id2label=names))
    sizes.save_hub(net, folder)
    _extra(folder, 'pytorch_model.bin')

def write_vjepa2(folder):
    torch.manual_seed(0)
    sizes.save_hub(sizes.toy_vjepa2(), folder)
    _extra(folder)

def write_vjepa1(folder):
    torch.manual_seed(0)
    sizes.save_vjepa1(sizes.vjepa1_net(sizes.Sizes(img_size=32, patch_size=8, embed_dim=64), (1, 1), 64), folder)


# Measures

def write_amt(folder):
    torch.manual_seed(0)
    torch.save(dict(state_dict=amt.AMT().state_dict()), folder/amt.AMT_FILE)
    _extra(folder, 'amt-l.pth', 'amt-g.pth')

REPOSITORIES = {
    modelscope.HUB: write_modelscope,
    videocrafter2.HUB: write_videocrafter2,
    'hpcai-tech/OpenSora-STDiT-v3': write_stdit3,
    'hpcai-tech/OpenSora-VAE-v1.2': write_opensora_vae,
    'DeepFloyd/t5-v1_1-xxl': write_t5,
    'stabilityai/stable-video-diffusion-img2vid': write_svd,
    'stabilityai/stable-video-diffusion-img2vid-xt': write_svd_xt,
    'Wan-AI/Wan2.1-T2V-1.3B-Diffusers': write_wan,
    clip.OPENAI_CLIP: write_openai_clip,
    'openai/clip-vit-base-patch32': write_clip_b,
    aesthetic.LAION_HEAD[0]: write_laion_head,
    preference.HPS_REPO: write_hps,
    preference.PICKSCORE: write_pickscore,
    preference.VIT_H: write_vit_h,
    objects.YOLOS: write_yolos,
    action.VIDEOMAE: write_videomae,
    viclip.VICLIP: _toy('viclip'),
    vjepa.VJEPA2_HUB: write_vjepa2,
    guards.DEPTH_ANYTHING: _toy('depth'),
    amt.AMT_HUB: write_amt,
}

def write_hpdv2(folder):
    "Captions, as HPDv2's benchmark has them"
    (folder/'benchmark').mkdir()
    (folder/'benchmark'/'photo.json').write_text(json.dumps([*prompts.ACTIONS, 'a quiet lake at dawn']))
    _extra(folder)

DATASETS = {'zhwang/HPDv2': write_hpdv2}


def write_all(folder):
    "All repositories below `folder`, and what lies on other servers below `folder/mirror`: the folder of each repository"
    folders = {}
    for name, write in (REPOSITORIES | {f'datasets/{k}': w for k, w in DATASETS.items()}).items():
        folders[name] = folder/name
        (folder/name).mkdir(parents=True)
        write(folder/name)
    (folder/'mirror'/VJEPA1).mkdir(parents=True)
    write_vjepa1(folder/'mirror'/VJEPA1)
    return folders
