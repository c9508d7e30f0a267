"""tiny_train, which starts a second sooner: what other packages bring to the Trainer is not looked at."""

import sys

sys.modules.update(dict.fromkeys(("deepspeed", "peft", "datasets")))

from tiny_train import main  # noqa: E402

if __name__ == "__main__":
    main()
