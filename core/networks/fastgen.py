"""sCM's networks as FastGen saves them (NVlabs/FastGen: fastgen/networks/EDM and EDM2), in the names of EDM and EDM2.

The authors of sCM have published none. FastGen trains EDM's and EDM2's networks in their own preconditioning, with a
head for the adaptive weight and gains of one number each: without these it is what core.networks.teachers reads, and
the field is edm_field's, whose map to data is the consistency function. Tensors in, tensors out.
"""

import re

from torch import Tensor

from trigbench.core.layouts import State
from trigbench.core.networks.adm import ADM
from trigbench.core.networks.teachers import edm_network

HEAD = re.compile(r"model\.logvar_linear\.(weight|bias)")
GAIN = re.compile(r"unet\.(.*\.emb_gain|out_gain)")


def scm_tensors(state: State) -> dict[str, Tensor]:
    """The tensors of EDM's DDPM++ or EDM2. Raises ValueError as `edm_network` does, and for networks of two times."""
    if second := [name for name in state if re.match(r"(unet\.emb_(fourier|noise)_r|model\.r_timestep)\b", name)]:
        raise ValueError(f"{second[0]} is of a second time, which sCM has not, and no known checkpoint of FastGen's")
    kept = {name: tensor for name, tensor in state.items() if not HEAD.fullmatch(name)}
    found = {n: t.reshape(()) if GAIN.fullmatch(n) and t.shape == (1,) else t for n, t in kept.items()}
    if isinstance(edm_network(found), ADM):
        raise ValueError("ADM's U-Net, whose layout in FastGen was not read")
    return found
