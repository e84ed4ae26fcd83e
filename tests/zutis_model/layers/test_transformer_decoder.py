import torch

from zutis_model.layers.transformer_decoder import TransformerDecoder

WIDTH, LAYERS, HEADS, HIDDEN = 16, 3, 4, 32


def make_decoder():
    return TransformerDecoder(WIDTH, LAYERS, HEADS, HIDDEN).eval()


def attend(attention, q_in, k_in, v_in):
    """Multi-head attention spelled out."""
    wq, wk, wv = attention.in_proj_weight.chunk(3)
    bq, bk, bv = attention.in_proj_bias.chunk(3)

    def split(x):
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    q, k, v = split(q_in @ wq.T + bq), split(k_in @ wk.T + bk), split(v_in @ wv.T + bv)
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return attention.out_proj((weights @ v).transpose(1, 2).flatten(2))


def test_agrees_with_the_decoder_spelled_out():
    decoder = make_decoder()
    queries, memory = torch.randn(5, WIDTH), torch.randn(2, 7, WIDTH)
    position = torch.randn(1, 7, WIDTH)

    target, expected = torch.zeros(2, 5, WIDTH), []
    for layer in decoder.layers:
        at = target + queries
        target = layer.norm1(target + attend(layer.self_attn, at, at, target))
        attended = attend(layer.multihead_attn, target + queries, memory + position, memory)
        target = layer.norm2(target + attended)
        target = layer.norm3(target + layer.linear2(layer.linear1(target).clamp(min=0)))
        expected.append(decoder.norm(target))

    actual = decoder(queries, memory, position, all_layers=True)
    torch.testing.assert_close(actual, torch.stack(expected), atol=1e-5, rtol=0)


def test_last_layer_is_the_last_of_all():
    decoder = make_decoder()
    queries, memory = torch.randn(5, WIDTH), torch.randn(2, 7, WIDTH)
    all_layers = decoder(queries, memory, all_layers=True)
    last = decoder(queries, memory)
    assert all_layers.shape == (LAYERS, 2, 5, WIDTH)
    torch.testing.assert_close(last, all_layers[-1:], atol=1e-5, rtol=0)


def test_no_position_is_a_position_of_zeros():
    decoder = make_decoder()
    queries, memory = torch.randn(5, WIDTH), torch.randn(1, 7, WIDTH)
    with_zeros = decoder(queries, memory, torch.zeros(7, WIDTH))
    # Not equal bits: how a product's sums are split may differ between two calls.
    torch.testing.assert_close(decoder(queries, memory), with_zeros, atol=1e-5, rtol=0)


def test_gradients_reach_every_parameter():
    decoder = make_decoder()
    decoder(torch.randn(5, WIDTH), torch.randn(2, 7, WIDTH)).square().sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
