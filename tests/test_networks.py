import pytest
import torch
from torch.nn import functional as F

from skdistill.networks import conv_net, resnet


def convolutions(network):
    return [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]


def n_weights(network):
    return sum(weights.numel() for weights in network.parameters())


def test_convnet_3_is_that_of_the_literature():
    # Three convolutions with bias, norms with scale and shift, a linear layer on 4 x 4 x 128.
    expected = (27 + 1) * 128 + 2 * (1152 + 1) * 128 + 3 * 256 + (2048 + 1) * 10
    assert n_weights(conv_net((32, 32, 3), 10)) == expected


def test_resnet_18_is_that_of_the_literature():
    # The usual ResNet-18 for CIFAR-10 has as many weights, with batch normalisation.
    assert n_weights(resnet((32, 32, 3), 10)) == 11_173_962


@pytest.mark.parametrize(
    ("shape", "n_pixels"), [((16, 16), 2), ((28, 28), 4), ((32, 32, 3), 4), ((64, 96, 3), 2)]
)
@pytest.mark.parametrize("pooling", [False, True])
def test_resnets_take_images_of_all_sizes(shape, n_pixels, pooling):
    network = resnet(shape, 7, layers=10, pooling=pooling, width=4)
    x = torch.zeros(2, *(shape[2:] or (1,)), *shape[:2])
    assert network(x).shape == (2, 7)
    last = network[:-3](x)
    # Strides round odd sizes up, pooling rounds them down.
    assert last.shape[1] == 32
    assert last.shape[2] == (3 if pooling and shape == (28, 28) else n_pixels)


def block_of_the_literature(block, x):
    """Apply the first block of a stage as IDC's published ResNetAP does: pooling after the ReLU."""
    first, second, short = convolutions(block)
    norms = [m for m in block.modules() if isinstance(m, torch.nn.InstanceNorm2d)]
    y = F.avg_pool2d(F.relu(norms[0](first(x))), 2)
    return F.relu(norms[1](second(y)) + norms[2](F.avg_pool2d(short(x), 2)))


def test_resnet_ap_10_is_that_of_the_literature():
    torch.manual_seed(0)
    network = resnet((32, 32, 3), 10, layers=10, pooling=True, width=4)
    x = torch.randn(2, 4, 12, 10)
    torch.testing.assert_close(network[4](x), block_of_the_literature(network[4], x))
    conv, norm, relu, pool, *_ = resnet((64, 64, 3), 10, layers=10, pooling=True, width=4)
    assert (conv.kernel_size, conv.stride) == ((7, 7), (1, 1))
    assert isinstance(norm, torch.nn.InstanceNorm2d)
    assert isinstance(relu, torch.nn.ReLU)
    assert (pool.kernel_size, type(pool)) == (4, torch.nn.AvgPool2d)
    assert not any(m.stride != (1, 1) for m in convolutions(network))


@pytest.mark.parametrize("build", [conv_net, resnet])
def test_instances_do_not_see_each_other(build):
    """Instance normalisation: no image changes the logits of another."""
    torch.manual_seed(0)
    network = build((32, 32, 3), 10, width=8)
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(network(x)[1:3], network(x[1:3]))
    torch.testing.assert_close(network(x), network(x * 3.0), atol=1e-3, rtol=1e-2)


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="4 x 5 pixels allow a depth of at most 2, got 3"):
        conv_net((4, 5), 10, depth=3)
    for depth in (None, 1):
        with pytest.raises(ValueError, match="1 x 8 pixels are too small for a ConvNet; .* 2"):
            conv_net((1, 8), 10, depth=depth)
    with pytest.raises(ValueError, match="12 x 16 pixels are too small for a ResNet"):
        resnet((12, 16), 10)
    with pytest.raises(ValueError, match="layers must be 10 or 18, got 34"):
        resnet((32, 32), 10, layers=34)
