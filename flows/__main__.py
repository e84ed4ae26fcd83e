"""`python -m flows` is `zutis`; modules of the working folder never shadow the package's."""

from flows.processes.safe_path import forget_working_folder

if __name__ == "__main__":
    forget_working_folder()

    from flows.launcher import main

    main()
