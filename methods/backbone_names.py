"""The backbones' names, apart from their code, which needs torch."""

BACKBONES = {
    "conv4": "4 blocks of 3x3 convolution with 64 filters, 0.11 M parameters (Snell et al. 2017)",
    "resnet12": "ResNet-12, width 64-128-256-512, 8.0 M parameters (Lee et al. 2019, without DropBlock)",
    "resnet12-32": "ResNet-12 of half width, 32-64-128-256, 2.0 M parameters",
    "resnet20": "CIFAR ResNet-20, option A shortcuts, 0.27 M parameters (He et al. 2016)",
    "resnet32": "CIFAR ResNet-32, option A shortcuts, 0.46 M parameters (He et al. 2016)",
    "resnet56": "CIFAR ResNet-56, option A shortcuts, 0.85 M parameters (He et al. 2016)",
    "timm:<name>": "any model of timm by its name, e.g. timm:resnet18, from random weights",
}
